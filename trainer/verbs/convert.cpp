// convert: source -> native MLA model, and the parity report.
#include "model/convert.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "autograd/core/pool.h"
#include "core/progress.h"
#include "trainer/files/staging.h"
#include "trainer/models/calibration.h"
#include "trainer/models/conversion_passes.h"
#include "trainer/models/id_source.h"
#include "trainer/models/parity.h"
#include "trainer/run/conversion_plan.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

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

bool measures_norms(const ConvertOptions& options, const model::ConversionOptions& conversion) {
  return conversion.rope.strategy == model::RopeStrategy::two_norm && options.stats.empty() &&
         is_given(options.source);
}

nlohmann::json provenance(const ConvertOptions& options, const OpenedModel& source) {
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
  const OpenedModel source = open_streamed(options.model, session);
  model::WeightReader& weights = *source.weights;
  const model::ModelSpec& spec = weights.spec();
  const model::ConversionOptions choice = conversion_options(options, spec.config);
  // Before the pass over the data: a size that does not fit is known without its scores.
  const model::PairNorms any_norms = equal_pair_norms(spec.config);
  const bool has_norms = !options.stats.empty() || is_given(options.source);
  const model::ModelSpec any_target =
      model::converted_spec(spec, choice, has_norms ? &any_norms : nullptr);
  const bool with_ids = is_given(options.source), with_norms = measures_norms(options, choice);
  const std::vector<WindowSource> sets =
      with_ids ? open_windows(options.source, spec.config) : spread_ids(spec.config);
  warn_of_length(sets, spec.config, session);
  std::optional<model::PairNorms> norms;
  if (choice.rope.strategy == model::RopeStrategy::two_norm && !options.stats.empty())
    norms = model::read_statistics(options.stats, spec.config, source.hash);
  const ConversionPlan plan = plan_conversion(weights, any_target, sets, kConversionBatch);
  session.say(to_text(plan));
  require_free_space(options.out, plan.disk_bytes);
  if (options.dry_run) return to_json(plan);

  const SourcePass before = pass_source(weights, sets, with_norms, with_ids);
  if (with_norms) norms = before.norms;
  core::Progress progress("factor", static_cast<uint64_t>(spec.config.num_hidden_layers), "layers");
  uint64_t factored = 0;
  model::ConvertedReader converted(weights,
                                   model::converted_spec(spec, choice, norms ? &*norms : nullptr),
                                   [&](int64_t) { progress.update(++factored); });

  ParityReport report;
  ConvertedPass after;
  nlohmann::json json;
  const auto check = [&](const fs::path& written, Manifest& manifest) {
    progress.finish();
    ag::Pool::release_cached();
    const auto stored = state_reader(written, manifest.tensors);
    report = compare_specs(spec, stored->spec(), converted.layers());
    report.not_needed = not_needed(options, choice);
    after = pass_converted(weights, before, *stored, sets);
    if (before.loss) report.loss = {.before = *before.loss, .after = *after.loss};
    // What lost nothing must be the same function.
    require_verdict(after.agreement, report.is_exact(), options.out);
    json = to_json(report);
    json["compare"] = to_json(after.agreement);
    manifest.provenance.update(provenance(options, source));
    manifest.provenance["parity"] = json;
    json["model_hash"] = model_hash(*stored);
  };
  const std::string manifest_hash = save_model(options.out, converted, source.companions, check);
  json["manifest_hash"] = manifest_hash;
  json["out"] = options.out.string();
  session.say(to_text(report));
  session.say(compared_with_source(after.agreement));
  session.say(verdict(after.agreement, report.is_exact()));
  session.say(fmt::format("saved {}", options.out.string()));
  return json;
}

}  // namespace trainer
