#include "trainer/model_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/progress.h"
#include "model/llama.h"
#include "trainer/id_source.h"

namespace trainer {

using core::ExitCode;

Agreement compare_logits(const model::Model& a, const model::Model& b,
                         const std::vector<WindowSource>& sets, ag::DType dtype_a,
                         ag::DType dtype_b) {
  model::Llama llama_a(a, {.compute = dtype_a}), llama_b(b, {.compute = dtype_b});
  core::Progress progress("compare", static_cast<uint64_t>(total_windows(sets)), "windows");
  Agreement agreement;
  uint64_t done = 0;
  for (const WindowSource& set : sets) {
    for (int64_t w = 0; w < set.count; ++w) {
      const ag::Tensor ids = read_windows(set, w, 1);
      agreement.add(llama_a.logits(ids, 1).to_host<float>(),
                    llama_b.logits(ids, 1).to_host<float>(), ids.to_host<int32_t>());
      progress.update(++done);
    }
  }
  progress.finish();
  return agreement;
}

std::string to_text(const Agreement& agreement) {
  return fmt::format(
      "max |A - B|     {:.6g}\nmean |A - B|    {:.6g}\n"
      "KL(A||B)        {:.6g} nats/token\ntop-1 agreement {:.2f} %\n"
      "nll A           {:.6f}\nnll B           {:.6f}\npositions       {}",
      agreement.max_difference(), agreement.mean_difference(), agreement.kl(),
      100 * agreement.top1_agreement(), agreement.nll_a(), agreement.nll_b(),
      agreement.positions());
}

std::string compared_with_source(const Agreement& agreement) {
  return fmt::format(
      "compared with the source over {} ids: max |difference| {:.4g}, KL {:.4g} nats/token, top-1 "
      "agreement {:.2f} %",
      agreement.positions(), agreement.max_difference(), agreement.kl(),
      100 * agreement.top1_agreement());
}

nlohmann::json to_json(const Agreement& agreement) {
  return {{"max_abs_difference", agreement.max_difference()},
          {"mean_abs_difference", agreement.mean_difference()},
          {"kl", agreement.kl()},
          {"top1_agreement", agreement.top1_agreement()},
          {"nll_a", agreement.nll_a()},
          {"nll_b", agreement.nll_b()},
          {"positions", agreement.positions()},
          {"targets", agreement.targets()}};
}

std::vector<WindowSource> spread_ids(const model::LlamaConfig& config) {
  constexpr int64_t kLength = 64;
  const int64_t length = std::min(kLength, config.max_position_embeddings);
  const auto vocabulary = static_cast<uint64_t>(config.vocab_size);
  const auto read = [length, vocabulary](int64_t, int32_t* out) {
    uint32_t state = 1;
    for (int64_t i = 0; i < length; ++i) {
      state = state * 1664525U + 1013904223U;
      out[i] = static_cast<int32_t>((uint64_t{state} * vocabulary) >> 32);
    }
  };
  return {{.name = "spread ids",
           .protocol = fmt::format("{} ids spread over the vocabulary", length),
           .fingerprint = "none",
           .count = 1,
           .sequence_length = length,
           .read = read}};
}

std::vector<WindowSource> verdict_windows(std::vector<WindowSource> sets,
                                          const model::LlamaConfig& config) {
  constexpr int64_t kWindows = 2;
  if (sets.empty()) return spread_ids(config);
  for (WindowSource& set : sets) set.count = std::min(set.count, kWindows);
  return sets;
}

void require_finite(const Agreement& agreement, const std::string& path) {
  if (std::isfinite(agreement.max_difference()) && std::isfinite(agreement.kl())) return;
  core::fail(ExitCode::kNumerical, {.path = path,
                                    .field = "logits",
                                    .expected = "finite values in both models",
                                    .found = fmt::format("{}", agreement.max_difference()),
                                    .hint = "mha2mla eval shows which model has them"});
}

void require_same_function(const Agreement& agreement, const std::string& path) {
  require_finite(agreement, path);
  if (agreement.max_difference() <= kSameFunction * agreement.largest_logit()) return;
  core::fail(ExitCode::kNumerical,
             {.path = path,
              .field = "logits",
              .expected = fmt::format("the source's within {:g} of its largest, {:.4g}",
                                      kSameFunction, agreement.largest_logit()),
              .found = fmt::format("a difference of {:.4g}", agreement.max_difference()),
              .hint = "nothing was saved; mha2mla compare shows more"});
}

void require_verdict(const Agreement& agreement, bool must_be_same, const std::string& path) {
  if (must_be_same)
    require_same_function(agreement, path);
  else
    require_finite(agreement, path);
}

std::string same_function_text(const Agreement& agreement) {
  return fmt::format("the same function: no logit differs by more than {:g} of the largest, {:.4g}",
                     kSameFunction, agreement.largest_logit());
}

}  // namespace trainer
