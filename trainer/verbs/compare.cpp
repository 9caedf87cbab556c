// compare: two models on the same ids, or (--bits) their stored tensors.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "core/progress.h"
#include "model/llama.h"
#include "trainer/agreement.h"
#include "trainer/id_source.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

using core::ExitCode;

std::string tokenizer_hash(const LoadedModel& model) {
  for (const Companion& companion : model.companions)
    if (companion.name() == "tokenizer.json") return companion.hash();
  return {};
}

// Ids mean the same to both models, as far as their folders tell.
void require_same_ids(const LoadedModel& a, const LoadedModel& b) {
  const int64_t vocab_a = a.model.spec.config.vocab_size, vocab_b = b.model.spec.config.vocab_size;
  if (vocab_a != vocab_b)
    core::fail(ExitCode::kBadConfig, {.path = b.folder,
                                      .field = "vocab_size",
                                      .expected = std::to_string(vocab_a) + " (that of A)",
                                      .found = std::to_string(vocab_b),
                                      .hint = "only models of one tokenizer can be compared"});
  const std::string hash_a = tokenizer_hash(a), hash_b = tokenizer_hash(b);
  if (hash_a.empty() || hash_b.empty() || hash_a == hash_b) return;
  core::fail(ExitCode::kBadConfig, {.path = b.folder / "tokenizer.json",
                                    .field = "hash",
                                    .expected = hash_a + " (that of A)",
                                    .found = hash_b,
                                    .hint = "only models of one tokenizer can be compared"});
}

nlohmann::json compare_stored(const LoadedModel& a, const LoadedModel& b, Session& session) {
  constexpr size_t kMostLines = 20;
  const std::vector<TensorDifference> differences = compare_bits(a.model, b.model);
  nlohmann::json list = nlohmann::json::array();
  for (const TensorDifference& d : differences) {
    list.push_back({{"tensor", d.tensor}, {"difference", d.difference}});
    if (list.size() <= kMostLines) session.say(d.tensor + ": " + d.difference);
  }
  if (list.size() > kMostLines)
    session.say(fmt::format("... and {} more", list.size() - kMostLines));
  session.say(differences.empty()
                  ? fmt::format("equal: {} tensors, bit by bit", a.model.weights.size())
                  : fmt::format("different: {} tensors", differences.size()));
  return {{"equal", differences.empty()},
          {"tensors", a.model.weights.size()},
          {"differences", std::move(list)}};
}

Agreement compare_logits(const LoadedModel& a, const LoadedModel& b,
                         const std::vector<WindowSource>& sets, ag::DType dtype_a,
                         ag::DType dtype_b) {
  model::Llama llama_a(a.model, {.compute = dtype_a}), llama_b(b.model, {.compute = dtype_b});
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

}  // namespace

nlohmann::json run_compare(const CompareOptions& options, Session& session) {
  const ag::DType dtype = dtype_from(options.dtype);
  const ag::DType dtype_b = options.dtype_b.empty() ? dtype : dtype_from(options.dtype_b);
  const LoadedModel a = open_model(options.a, session), b = open_model(options.b, session);
  if (options.bits) return compare_stored(a, b, session);
  require_same_ids(a, b);
  const std::vector<WindowSource> sets = open_windows(options.source, a.model.spec.config);
  const Agreement result = compare_logits(a, b, sets, dtype, dtype_b);
  if (!std::isfinite(result.max_difference()) || !std::isfinite(result.kl()))
    core::fail(ExitCode::kNumerical, {.path = options.b,
                                      .field = "logits",
                                      .expected = "finite values in both models",
                                      .found = fmt::format("{}", result.max_difference()),
                                      .hint = "mha2mla eval shows which model has them"});
  session.say(fmt::format(
      "max |A - B|     {:.6g}\nmean |A - B|    {:.6g}\n"
      "KL(A||B)        {:.6g} nats/token\ntop-1 agreement {:.2f} %\n"
      "nll A           {:.6f}\nnll B           {:.6f}\npositions       {}",
      result.max_difference(), result.mean_difference(), result.kl(), 100 * result.top1_agreement(),
      result.nll_a(), result.nll_b(), result.positions()));
  return {{"max_abs_difference", result.max_difference()},
          {"mean_abs_difference", result.mean_difference()},
          {"kl", result.kl()},
          {"top1_agreement", result.top1_agreement()},
          {"nll_a", result.nll_a()},
          {"nll_b", result.nll_b()},
          {"positions", result.positions()},
          {"targets", result.targets()},
          {"data", describe(sets)},
          {"dtype", options.dtype},
          {"dtype_b", options.dtype_b.empty() ? options.dtype : options.dtype_b}};
}

}  // namespace trainer
