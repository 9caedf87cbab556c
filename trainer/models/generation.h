// Text from a model, one token at a time from the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/llama.h"

namespace trainer {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  double top_p = 1;        // the most probable tokens whose probabilities reach it
  uint64_t seed = 0;
};

// The next token from a row of logits. Greedy ties go to the smaller id; the same seed gives the
// same tokens on every machine.
class Sampler {
 public:
  // Throws kUsage unless temperature >= 0 and 0 < top_p <= 1.
  explicit Sampler(const SamplingOptions& options);
  // Throws kNumerical when a logit is not finite.
  int32_t pick(std::span<const float> logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

enum class StopReason { eos, max_new_tokens, context };
std::string to_string(StopReason reason);

struct Generation {
  std::vector<int32_t> tokens;  // the new ones, eos included
  StopReason stop = StopReason::max_new_tokens;
  int64_t cache_bytes_per_token = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t decode_steps = 0;  // forward passes after the prompt's

  double tokens_per_second() const;  // of the decode steps; 0 when there were none
};

// Continues `prompt` until one of `eos`, `max_new_tokens`, or until the context
// (LlamaConfig::context_length) is full. `on_token` may be empty.
// Throws kUsage for an empty prompt, for one that leaves no room in the context and for
// max_new_tokens < 1; kBadData for an id outside the vocabulary.
Generation generate(model::Llama& model, std::span<const int32_t> prompt,
                    const std::vector<int64_t>& eos, int64_t max_new_tokens, Sampler& sampler,
                    const std::function<void(int32_t)>& on_token = {});

// The text of a growing sequence of ids in pieces that are whole UTF-8 characters.
class TextStream {
 public:
  TextStream(const data::Tokenizer& tokenizer, std::span<const uint32_t> prompt);
  // What `id` adds to the text; the bytes of a character come with its last token.
  std::string add(uint32_t id);
  // What was held back.
  std::string finish();

 private:
  std::string advance(const std::string& text, size_t end);

  const data::Tokenizer& tokenizer_;
  std::vector<uint32_t> ids_;
  size_t written_ = 0;  // bytes of the decoded text
};

}  // namespace trainer
