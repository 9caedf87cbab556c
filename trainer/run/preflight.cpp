#include "trainer/run/preflight.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/files/staging.h"
#include "trainer/models/calibration.h"
#include "trainer/models/id_source.h"
#include "trainer/models/model_folder.h"
#include "trainer/ranks/affinity.h"
#include "trainer/ranks/shard_tree_plan.h"
#include "trainer/run/conversion_plan.h"
#include "trainer/run/prepare.h"
#include "trainer/run/run_folder.h"
#include "trainer/step/memory.h"
#include "trainer/step/trainer.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;

struct Target {
  model::ModelSpec spec;
  json report;
};

Target check_conversion(const Config& config, const model::Model& model, PlanFor purpose) {
  const model::ModelSpec& source = model.spec;
  if (!config.mla) return {source, {{"converts", false}, {"reason", "no mla section"}}};
  if (source.is_converted())
    return {source, {{"converts", false}, {"reason", "the model is converted already"}}};
  const model::PairNorms norms = equal_pair_norms(source.config);
  Target target{
      model::converted_spec(source, conversion_options(*config.mla, source.config.pairs()), &norms),
      {}};
  target.report = {{"converts", true},
                   {"cache_elements_per_token_before", source.cache_elements_per_token()},
                   {"cache_elements_per_token_after", target.spec.cache_elements_per_token()},
                   {"parameters_after", target.spec.parameter_count()}};
  if (purpose == PlanFor::kReport) {
    model::MemoryReader weights(model);
    target.report["beside_the_source"] = to_json(
        plan_conversion(weights, target.spec, calibration_windows(config, source.config.vocab_size),
                        config.tokens.micro_batch_size));
  }
  return target;
}

json check_training_data(const Config& config, int64_t vocab_size) {
  const data::NanosetStages stages = open_training_data(config, vocab_size);
  stages.check_vocab(vocab_size);
  json report = json::array();
  for (size_t i = 0; i < stages.size(); ++i) {
    const data::Nanoset& nanoset = stages.nanoset(i);
    report.push_back({{"stage", stages.name_of(i)},
                      {"first_step", stages.start_of(i)},
                      {"samples_per_epoch", nanoset.samples_per_epoch()},
                      {"samples_needed", nanoset.samples_needed()},
                      {"epochs", nanoset.epochs()}});
  }
  return report;
}

// Reads every window that will be read, and so checks every id.
json check_windows(const std::string& name, const data::EvalWindows& windows) {
  std::vector<int32_t> ids(static_cast<size_t>(windows.sequence_length()));
  for (int64_t i = 0; i < windows.count(); ++i) windows.read(i, ids.data());
  return {{"set", name}, {"windows", windows.count()}, {"protocol", windows.protocol()}};
}

json check_validation_data(const Config& config, int64_t vocab_size) {
  json report = json::array();
  for (const auto& [name, windows] : open_validation_sets(config, vocab_size))
    report.push_back(check_windows(name, windows));
  return report;
}

json check_calibration_data(const Config& config, int64_t vocab_size) {
  json report = json::array();
  if (config.mla)
    for (const std::string& path : config.mla->calibration.data)
      report.push_back(
          check_windows(path, data::EvalWindows(path, vocab_size, config.tokens.sequence_length,
                                                config.mla->calibration.windows)));
  return report;
}

struct RunState {
  fs::path existing;
  size_t checkpoints = 0;
  json report;
};

RunState check_run_folder(const Config& config, PlanFor purpose) {
  const fs::path path = run_path(config.general);
  // Before the model is read: beside a run that fills the memory it would not fit, and that is not
  // the reason to give.
  if (purpose == PlanFor::kStart) require_no_owner(path);
  RunState run{.existing = existing_ancestor(path), .checkpoints = 0, .report = {}};
  if (!fs::is_directory(run.existing))
    core::fail(ExitCode::kIo, {.path = run.existing,
                               .field = "general.output_dir",
                               .expected = "a folder",
                               .found = "a file"});
  if (::access(run.existing.c_str(), W_OK | X_OK) != 0)
    core::fail_errno("write into", run.existing, errno);
  run.checkpoints = find_checkpoints(path / "checkpoints").size();
  run.report = {{"folder", path.string()},
                {"exists", run.existing == path},
                {"checkpoints", run.checkpoints}};
  return run;
}

// Checkpoints that lie on the disk at once: the kept ones, and the newest before one is removed.
// Those that a stop or a request adds for a while are not counted.
uint64_t checkpoints_on_disk(const Config& config) {
  const CheckpointsConfig& c = config.checkpoints;
  const int64_t steps = config.tokens.train_steps;
  const int64_t made = (steps + c.checkpoint_interval - 1) / c.checkpoint_interval;
  const int64_t forever = c.keep_every > 0 ? steps / c.keep_every : 0;
  const int64_t best = config.validation.sets.empty() ? 0 : c.keep_best;
  return static_cast<uint64_t>(
      std::max<int64_t>(1, std::min(made, c.keep_last + 1 + best + forever)));
}

json check_disk(const Config& config, const model::ModelSpec& spec, const RunState& run,
                json& warnings) {
  const uint64_t each = checkpoint_bytes(config, spec);
  const uint64_t free = core::free_disk_bytes(run.existing);
  const uint64_t held = checkpoints_on_disk(config);
  const uint64_t more = held - std::min<uint64_t>(run.checkpoints, held);
  if (each + each / 5 > free)
    core::fail(ExitCode::kIo,
               {.path = run.existing,
                .field = "free disk space",
                .expected = core::format_bytes(each + each / 5) + " for one checkpoint",
                .found = core::format_bytes(free),
                .hint = "free space or choose another general.output_dir"});
  if (static_cast<double>(more) * static_cast<double>(each) > static_cast<double>(free))
    warnings.push_back(fmt::format(
        "warning: {}: free disk space: {} checkpoints will need {}, got {}; lower "
        "checkpoints.keep_last or raise checkpoints.keep_every",
        run.existing.string(), held, core::format_bytes(held * each), core::format_bytes(free)));
  return {{"checkpoint_bytes", each}, {"checkpoints_kept", held}, {"free_bytes", free}};
}

json check_memory(const Config& config, const model::ModelSpec& spec, int ranks, json& warnings) {
  const MemoryEstimate m = estimate_memory(config, spec, ranks);
  const uint64_t available = available_memory_bytes();
  const std::string table = fmt::format(
      "{} per rank (weights {}, gradients {}, optimizer {}, activations {}, runtime {}), and {} "
      "for the copy that a checkpoint is written from",
      core::format_bytes(m.per_rank()), core::format_bytes(m.weights),
      core::format_bytes(m.gradients), core::format_bytes(m.optimizer),
      core::format_bytes(m.activations), core::format_bytes(m.runtime),
      core::format_bytes(m.snapshot));
  const auto hint = [&]() -> std::string {
    const int64_t fitting = fitting_micro_batch(config, spec, ranks, available);
    if (fitting > 0) return fmt::format("tokens.micro_batch_size={} fits", fitting);
    return "fewer ranks, a smaller tokens.micro_batch_size, or parallelism.recompute: block";
  };
  // Activations are an estimate; the rest is not, and no run can do without it.
  const uint64_t all = m.all(ranks);
  if (all - static_cast<uint64_t>(ranks) * m.activations > available)
    core::fail(
        ExitCode::kOutOfMemory,
        {.field = "memory",
         .expected = fmt::format("{} on {} ranks: {}", core::format_bytes(all), ranks, table),
         .found = core::format_bytes(available) + " available",
         .hint = hint()});
  if (all > available)
    warnings.push_back(fmt::format("warning: memory: about {}, {} available for {} ranks; {}",
                                   table, core::format_bytes(available), ranks, hint()));
  return {{"weights_bytes", m.weights},           {"gradients_bytes", m.gradients},
          {"optimizer_bytes", m.optimizer},       {"activations_bytes", m.activations},
          {"runtime_bytes", m.runtime},           {"snapshot_bytes", m.snapshot},
          {"total_per_rank_bytes", m.per_rank()}, {"total_bytes", all},
          {"available_bytes", available}};
}

json check_threads(const Config& config, int ranks, json& warnings) {
  std::optional<int> requested;
  const int64_t count = config.parallelism.threads_per_rank.count;
  if (count > 0) requested = static_cast<int>(count);
  const Affinity affinity = read_affinity();
  const ThreadPlan plan = plan_threads(affinity, ranks, requested);
  if (!plan.warning.empty()) warnings.push_back(plan.warning);
  return {{"ranks", ranks},
          {"threads_per_rank", plan.threads},
          {"allowed_cores", format_cores(affinity.allowed)}};
}

}  // namespace

json preflight(const Config& config, int ranks, PlanFor purpose) {
  const ShardPlan plan(config.parallelism.reduction_shards, ranks, 0);  // refuses too many ranks
  json warnings = config_warnings(config);
  const RunState run = check_run_folder(config, purpose);
  json report = {{"run", run.report}};

  const LoadedModel source = load_model(config.model.init_from);
  for (const std::string& note : source.notes) warnings.push_back("note: " + core::printable(note));
  const model::LlamaConfig& c = source.model.spec.config;
  report["model"] = {{"path", config.model.init_from},
                     {"hash", source.hash},
                     {"parameters", source.model.spec.parameter_count()},
                     {"layers", c.num_hidden_layers},
                     {"vocab_size", c.vocab_size}};
  if (const std::string warning =
          warning_of_length("tokens.sequence_length", config.tokens.sequence_length, c);
      !warning.empty())
    warnings.push_back(warning);
  const Target target = check_conversion(config, source.model, purpose);
  report["conversion"] = target.report;
  report["data"] = check_training_data(config, c.vocab_size);
  report["validation"] = check_validation_data(config, c.vocab_size);
  report["calibration"] = check_calibration_data(config, c.vocab_size);
  report["disk"] = check_disk(config, target.spec, run, warnings);
  report["memory"] = check_memory(config, target.spec, ranks, warnings);
  report["threads"] = check_threads(config, ranks, warnings);
  report["warnings"] = warnings;
  return report;
}

}  // namespace trainer
