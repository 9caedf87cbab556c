// compare: two models on the same ids, or (--bits) their stored tensors.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "trainer/models/id_source.h"
#include "trainer/models/model_comparison.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

using core::ExitCode;

std::string tokenizer_hash(const ModelFiles& model) {
  const Companion* const tokenizer = find_companion(model.companions, "tokenizer.json");
  return tokenizer != nullptr ? tokenizer->hash() : std::string();
}

// Ids mean the same to both models, as far as their folders tell.
void require_same_ids(const OpenedModel& a, const OpenedModel& b) {
  const int64_t vocab_a = a.weights->spec().config.vocab_size,
                vocab_b = b.weights->spec().config.vocab_size;
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

}  // namespace

nlohmann::json run_compare(const CompareOptions& options, Session& session) {
  const ag::DType dtype = dtype_from(options.dtype);
  const ag::DType dtype_b = options.dtype_b.empty() ? dtype : dtype_from(options.dtype_b);
  if (options.bits)
    return compare_stored(open_model(options.a, session), open_model(options.b, session), session);
  const OpenedModel a = open_streamed(options.a, session), b = open_streamed(options.b, session);
  require_same_ids(a, b);
  const std::vector<WindowSource> sets = open_windows(options.source, a.weights->spec().config);
  const Agreement result = compare_logits(*a.weights, *b.weights, sets, dtype, dtype_b);
  require_finite(result, options.b);
  session.say(to_text(result));
  nlohmann::json json = to_json(result);
  json["data"] = describe(sets);
  json["dtype"] = options.dtype;
  json["dtype_b"] = options.dtype_b.empty() ? options.dtype : options.dtype_b;
  return json;
}

}  // namespace trainer
