#include "trainer/models/model_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/stop.h"

namespace trainer {

using core::ExitCode;

Agreement compare_logits(model::WeightReader& a, model::WeightReader& b,
                         const std::vector<WindowSource>& sets, ag::DType dtype_a,
                         ag::DType dtype_b) {
  const int64_t width = std::max(a.spec().config.hidden_size, b.spec().config.hidden_size);
  const auto groups = window_groups(sets, width, 1);
  StreamedPass pass_a(a, sets, dtype_a, "compare, A", groups.size()),
      pass_b(b, sets, dtype_b, "compare, B", groups.size());
  Agreement agreement;
  for (const WindowGroup& group : groups) {
    const std::vector<PassedWindow> of_a = pass_a.run(group), of_b = pass_b.run(group);
    model::Head head_a(a, dtype_a), head_b(b, dtype_b);
    add_agreement(agreement, head_a, of_a, head_b, of_b);
  }
  pass_a.finish();
  pass_b.finish();
  return agreement;
}

void add_agreement(Agreement& agreement, model::Head& a, const std::vector<PassedWindow>& of_a,
                   model::Head& b, const std::vector<PassedWindow>& of_b) {
  const auto logits = [](model::Head& head, const PassedWindow& w, int64_t first, int64_t rows) {
    const int64_t width = w.hidden.cols();
    return head.logits(w.hidden.slice(first * width, {rows, width})).to_host<float>();
  };
  for (size_t i = 0; i < of_a.size(); ++i) {
    const std::span<const int32_t> ids = of_a[i].ids;
    for (size_t first = 0; first < ids.size(); first += kLogitRows) {
      core::throw_if_stopping();
      const auto from = static_cast<int64_t>(first);
      const int64_t rows = std::min(kLogitRows, static_cast<int64_t>(ids.size()) - from);
      agreement.add(logits(a, of_a[i], from, rows), logits(b, of_b[i], from, rows),
                    ids.subspan(first), rows);
    }
  }
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
  if (sets.empty()) return spread_ids(config);
  for (WindowSource& set : sets) set.count = std::min(set.count, kVerdictWindows);
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
