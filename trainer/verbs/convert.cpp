// convert: source -> native MLA model, and the parity report.
#include "model/convert.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "trainer/calibration.h"
#include "trainer/comm.h"
#include "trainer/id_source.h"
#include "trainer/model_comparison.h"
#include "trainer/parity.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

constexpr int64_t kBatch = 4;

// Pairs 0 means that none were named: with `full` that is all of them.
model::ConversionOptions conversion_options(const ConvertOptions& options,
                                            const model::LlamaConfig& config) {
  model::ConversionOptions result;
  result.rope.strategy = model::rope_strategy_from(options.rope);
  result.rope.pairs_per_head = options.rope_pairs;
  if (result.rope.strategy == model::RopeStrategy::full && options.rope_pairs == 0)
    result.rope.pairs_per_head = config.pairs();
  result.rope.uniform_start = options.uniform_start;
  result.score = model::rope_score_from(options.score);
  result.method = model::latent_method_from(options.latent);
  result.latent_dims_per_kv_head = options.latent_dims;
  return result;
}

// Options that are accepted with every strategy and method, but had nothing to do here.
std::vector<std::string> not_needed(const ConvertOptions& options,
                                    const model::ConversionOptions& conversion) {
  std::vector<std::string> list;
  const auto add = [&](const std::string& option, const std::string& with) {
    list.push_back(option + " (" + with + ")");
  };
  const std::string rope = "--rope " + options.rope;
  const bool two_norm = conversion.rope.strategy == model::RopeStrategy::two_norm;
  if (!two_norm) add("--score " + options.score, rope);
  if (!two_norm && !options.stats.empty()) add("--stats", rope);
  if (!two_norm && is_given(options.source)) add("--data / --ids for the scores", rope);
  if (two_norm && !options.stats.empty() && is_given(options.source))
    add("--data / --ids for the scores", "--stats");
  if (conversion.rope.strategy != model::RopeStrategy::uniform && options.uniform_start != 0)
    add("--uniform-start", rope);
  if (conversion.method == model::LatentMethod::none && options.latent_dims != 0)
    add("--latent-dims", "--latent none");
  return list;
}

std::optional<model::PairNorms> pair_norms(const ConvertOptions& options,
                                           const model::ConversionOptions& conversion,
                                           const LoadedModel& source,
                                           const std::vector<WindowSource>& sets) {
  if (conversion.rope.strategy != model::RopeStrategy::two_norm) return std::nullopt;
  if (!options.stats.empty())
    return model::read_statistics(options.stats, source.model.spec.config, source.hash);
  if (sets.empty()) return std::nullopt;
  return calibrate(source.model, sets, kBatch).norms;
}

nlohmann::json provenance(const ConvertOptions& options, const LoadedModel& source) {
  return {{"converted_from", source.hash},
          {"rope", options.rope},
          {"score", options.score},
          {"latent", options.latent}};
}

std::string verdict(const Agreement& agreement, bool is_exact) {
  return "verdict: " + (is_exact ? same_function_text(agreement)
                                 : "an approximation of the source, to be fine-tuned");
}

}  // namespace

nlohmann::json run_convert(const ConvertOptions& options, Session& session) {
  require_new(options.out);
  const LoadedModel source = open_model(options.model, session);
  const model::ModelSpec& spec = source.model.spec;
  const model::ConversionOptions conversion_choice = conversion_options(options, spec.config);
  // Before the pass over the data: a size that does not fit is known without its scores.
  const model::PairNorms any_norms = equal_pair_norms(spec.config);
  const bool has_norms = !options.stats.empty() || is_given(options.source);
  model::converted_spec(spec, conversion_choice, has_norms ? &any_norms : nullptr);
  std::vector<WindowSource> sets;
  if (is_given(options.source)) sets = open_windows(options.source, spec.config);
  const std::optional<model::PairNorms> norms =
      pair_norms(options, conversion_choice, source, sets);
  const model::Conversion conversion =
      model::convert(source.model, conversion_choice, norms ? &*norms : nullptr);

  ParityReport report = compare_specs(spec, conversion);
  report.not_needed = not_needed(options, conversion_choice);
  if (!sets.empty())
    report.loss = {.before = loss_of(source.model, sets, kBatch, &session.comm, "loss before"),
                   .after = loss_of(conversion.model, sets, kBatch, &session.comm, "loss after")};
  const Agreement agreement =
      compare_logits(source.model, conversion.model, verdict_windows(sets, spec.config));
  // What lost nothing must be the same function.
  require_verdict(agreement, report.is_exact(), options.out);
  nlohmann::json json = to_json(report);
  json["compare"] = to_json(agreement);
  nlohmann::json record = provenance(options, source);
  record["parity"] = json;
  const std::string manifest_hash =
      save_model(options.out, conversion.model, source.companions, record);
  session.say(to_text(report));
  session.say(compared_with_source(agreement));
  session.say(verdict(agreement, report.is_exact()));
  session.say(fmt::format("saved {}", options.out.string()));
  json["out"] = options.out.string();
  json["manifest_hash"] = manifest_hash;
  json["model_hash"] = model_hash(conversion.model);
  return json;
}

}  // namespace trainer
