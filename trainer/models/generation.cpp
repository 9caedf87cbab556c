#include "trainer/models/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string_view>

#include "core/error.h"
#include "core/seconds.h"
#include "core/stop.h"

namespace trainer {
namespace {

using core::ExitCode;

void require(bool holds, ExitCode code, const char* field, std::string expected, std::string found,
             std::string hint = {}) {
  if (!holds)
    core::fail(code, {.field = field,
                      .expected = std::move(expected),
                      .found = std::move(found),
                      .hint = std::move(hint)});
}

void check_prompt(const model::LlamaConfig& config, std::span<const int32_t> prompt,
                  int64_t max_new_tokens) {
  const auto tokens = static_cast<int64_t>(prompt.size());
  require(max_new_tokens >= 1, ExitCode::kUsage, "--max-new-tokens", "at least 1",
          std::to_string(max_new_tokens));
  require(tokens > 0, ExitCode::kUsage, "--prompt", "at least one token", "none",
          "this tokenizer adds no token of its own to an empty text");
  require(tokens < config.context_length(), ExitCode::kUsage, "--prompt",
          fmt::format("fewer than {} tokens (the model's context)", config.context_length()),
          fmt::format("{}", tokens), "shorten the prompt");
  for (const int32_t id : prompt)
    require(id >= 0 && id < config.vocab_size, ExitCode::kBadData, "prompt",
            fmt::format("token ids below {} (the model's vocabulary)", config.vocab_size),
            std::to_string(id), "the tokenizer is not that of this model");
}

// Bytes of `text` before what more tokens may still change. A character cut short decodes to
// replacement characters, and with byte fallback so does the whole run of bytes it stands in.
size_t settled_bytes(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  while (text.ends_with(kReplacement)) text.remove_suffix(kReplacement.size());
  return text.size();
}

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  require(std::isfinite(options.temperature) && options.temperature >= 0, ExitCode::kUsage,
          "--temperature", "0 (greedy) or above", fmt::format("{}", options.temperature));
  require(options.top_p > 0 && options.top_p <= 1, ExitCode::kUsage, "--top-p",
          "above 0, at most 1", fmt::format("{}", options.top_p));
}

int32_t Sampler::pick(std::span<const float> logits) {
  require(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }),
          ExitCode::kNumerical, "logits", "finite values", "NaN or infinity",
          "the weights are damaged, or the type is too narrow: try --dtype float32");
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options_.temperature == 0) return static_cast<int32_t>(best - logits.begin());

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<double> weight;
  for (const int32_t id : order)
    weight.push_back(std::exp(
        (static_cast<double>(logits[static_cast<size_t>(id)]) - static_cast<double>(*best)) /
        options_.temperature));
  const double all = std::accumulate(weight.begin(), weight.end(), 0.0);
  double nucleus = 0;
  size_t size = 0;
  while (size < weight.size() && (size == 0 || nucleus < options_.top_p * all))
    nucleus += weight[size++];
  // 53 random bits as a fraction: std::uniform_real_distribution differs between libraries.
  double rest = static_cast<double>(random_() >> 11) * 0x1p-53 * nucleus;
  size_t chosen = 0;
  while (chosen + 1 < size && rest >= weight[chosen]) rest -= weight[chosen++];
  return order[chosen];
}

std::string to_string(StopReason reason) {
  switch (reason) {
    case StopReason::eos:
      return "eos";
    case StopReason::max_new_tokens:
      return "max_new_tokens";
    case StopReason::context:
      return "context";
  }
  return "?";
}

double Generation::tokens_per_second() const {
  return decode_seconds > 0 ? static_cast<double>(decode_steps) / decode_seconds : 0;
}

Generation generate(model::Llama& model, std::span<const int32_t> prompt,
                    const std::vector<int64_t>& eos, int64_t max_new_tokens, Sampler& sampler,
                    const std::function<void(int32_t)>& on_token) {
  const model::LlamaConfig& config = model.spec().config;
  check_prompt(config, prompt, max_new_tokens);
  model::Cache cache(config.num_hidden_layers);
  std::vector<int32_t> fresh(prompt.begin(), prompt.end());
  Generation result;
  while (true) {
    core::throw_if_stopping();
    const auto start = std::chrono::steady_clock::now();
    const ag::Tensor logits = model.logits(
        ag::Tensor::from_host<int32_t>({static_cast<int64_t>(fresh.size())}, fresh), 1, &cache);
    const ag::Tensor last = logits.slice((logits.rows() - 1) * logits.cols(), {logits.cols()});
    const int32_t next = sampler.pick(last.to_host<float>());
    if (result.tokens.empty()) {
      result.prefill_seconds = core::seconds_since(start);
    } else {
      result.decode_seconds += core::seconds_since(start);
      ++result.decode_steps;
    }
    result.tokens.push_back(next);
    const bool ended = std::find(eos.begin(), eos.end(), next) != eos.end();
    if (on_token && !ended) on_token(next);
    fresh = {next};
    if (ended) {
      result.stop = StopReason::eos;
    } else if (static_cast<int64_t>(result.tokens.size()) >= max_new_tokens) {
      result.stop = StopReason::max_new_tokens;
    } else if (cache.length >= config.context_length()) {
      result.stop = StopReason::context;
    } else {
      continue;
    }
    break;
  }
  result.cache_bytes_per_token = cache.bytes_per_token();
  return result;
}

TextStream::TextStream(const data::Tokenizer& tokenizer, std::span<const uint32_t> prompt)
    : tokenizer_(tokenizer), ids_(prompt.begin(), prompt.end()) {
  written_ = settled_bytes(tokenizer_.decode(ids_, true));
}

std::string TextStream::advance(const std::string& text, size_t end) {
  // What is written stays written, even when a later byte turns it into replacement characters.
  if (end <= written_) return {};
  while (written_ < end && is_continuation(text[written_])) ++written_;
  const std::string piece = text.substr(written_, end - written_);
  written_ = end;
  return piece;
}

std::string TextStream::add(uint32_t id) {
  ids_.push_back(id);
  const std::string text = tokenizer_.decode(ids_, true);
  return advance(text, settled_bytes(text));
}

std::string TextStream::finish() {
  const std::string text = tokenizer_.decode(ids_, true);
  return advance(text, text.size());
}

}  // namespace trainer
