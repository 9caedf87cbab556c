// The tokenizer in the metadata of a GGUF file -> tokenizer.json and tokenizer_config.json. Read is
// byte-level BPE (tokenizer.ggml.model "gpt2") with the pre-tokenizers gpt-2, smollm, llama-bpe and
// qwen2.
#pragma once

#include <string>

#include "model/gguf.h"

namespace model {

struct GgufTokenizer {
  std::string tokenizer_json = {}, tokenizer_config_json = {};  // empty: none that can be read
  std::string refusal = {};                                     // why: one line
};

// Throws kBadData for metadata that contradicts itself: lists of other lengths than the vocabulary,
// ids outside of it, strings that are not UTF-8.
GgufTokenizer gguf_tokenizer(const GgufMetadata& metadata, int64_t vocab_size);

}  // namespace model
