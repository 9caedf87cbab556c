// A GGUF file of architecture "llama" -> Model, and the files that a Hugging Face folder of it
// would have. Quantised weights become float32, F16 too; F32 and BF16 keep their type.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "model/weights.h"

namespace model {

struct GgufModel {
  Model model;
  std::string config_json;
  GgufTokenizer tokenizer;
  std::vector<std::string> notes;  // odd but harmless: one line each, to be shown
};

// Throws kMissingInput without the file, kBadData for everything else: names the file, the key or
// tensor, expected and found.
GgufModel import_gguf(const std::filesystem::path& file);

// The same from the bytes of the file; `path` names it in errors.
GgufModel import_gguf(const std::string& path, std::span<const std::byte> file);

// The tokenizer of the file alone; kBadData for one that cannot be read, too.
GgufTokenizer read_gguf_tokenizer(const std::filesystem::path& file);

}  // namespace model
