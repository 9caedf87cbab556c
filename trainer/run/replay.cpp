#include "trainer/run/replay.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/stop.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/replica_check.h"
#include "trainer/checkpoint/state_snapshot.h"
#include "trainer/models/model_folder.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/rank_threads.h"
#include "trainer/run/run_folder.h"
#include "trainer/step/trainer.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;

// The recorded train lines by step, of the steps in (from, step].
std::map<int64_t, json> read_lines(const fs::path& metrics, int64_t from, int64_t step) {
  std::map<int64_t, json> recorded;
  for_each_metrics_line(metrics, [&](json entry) {
    if (entry.value("type", json()) != "train") return;
    const json n = entry.value("step", json());
    if (n.is_number_integer() && n > from && n <= step)
      recorded[n.get<int64_t>()] = std::move(entry);
  });
  return recorded;
}

// The newest valid checkpoint of the run before `step`. Damaged ones are left where they are.
fs::path find_start(const fs::path& directory, int64_t step, const Session& session) {
  for (const auto& [n, path] : find_checkpoints(directory)) {
    if (n >= step) continue;
    try {
      verify_checkpoint(path, /*full=*/true);
      return path;
    } catch (const core::Error& e) {
      session.say(fmt::format("passed over {}: {}", path.string(), e.what()));
    }
  }
  core::fail(ExitCode::kNoValidCheckpoint,
             {.path = directory,
              .field = "--replay",
              .expected = fmt::format("a valid checkpoint before step {}", step),
              .found = "none",
              .hint = "give a later step, or a checkpoint with --resume PATH"});
}

// The settings of the checkpoint decide; those given may differ only in what changes no bits.
void require_settings(const Config& saved, const Config& now, const fs::path& config) {
  const std::vector<std::string> changes = incompatible_changes(saved, now);
  if (!changes.empty())
    core::fail(ExitCode::kBadConfig, {.path = config,
                                      .field = "--replay",
                                      .expected = "the settings of the checkpoint",
                                      .found = fmt::format("{}", fmt::join(changes, ", ")),
                                      .hint = "give the configuration of the run"});
}

class Replay {
 public:
  Replay(Config config, const TrainOptions& options, Session& session)
      : config_(std::move(config)), options_(options), session_(session) {
    result_.step = options.replay;
    run_ = run_path(config_.general);
  }

  ReplayResult execute() {
    fix_threads(config_, session_.comm);
    choose_start();
    LoadedModel source;
    std::unique_ptr<data::NanosetStages> data;
    session_.comm.run_agreed([&] {
      source = load_model(start_);
      data = std::make_unique<data::NanosetStages>(
          open_training_data(config_, source.model.spec.config.vocab_size));
    });
    Trainer trainer(config_, session_.comm, source.model, *data);
    source = {};  // the trainer has its own masters now
    session_.comm.run_agreed([&] { load_checkpoint(start_, trainer.registry()); });
    trainer.refresh_after_load();
    recompute(trainer);
    if (session_.comm.size() > 1) require_equal_replicas(session_.comm, trainer.registry());
    if (!differs_anywhere()) compare_state(trainer);
    if (differs_anywhere()) differ("result", result_.step, "one on all ranks", "another on some");
    return result_;
  }

 private:
  void choose_start() {
    std::string chosen;
    session_.comm.run_agreed([&] {
      if (result_.step > config_.tokens.train_steps)
        core::fail(ExitCode::kUsage, {.field = "--replay",
                                      .expected = fmt::format("at most tokens.train_steps = {}",
                                                              config_.tokens.train_steps),
                                      .found = std::to_string(result_.step)});
      if (session_.comm.rank() != 0) return;
      chosen = options_.resume == "auto" ? find_start(run_ / "checkpoints", result_.step, session_)
                                         : fs::absolute(options_.resume);
    });
    start_ = session_.comm.broadcast(chosen);
    find_checkpoint();
    session_.comm.run_agreed([&] {
      const Manifest manifest = verify_checkpoint(start_, /*full=*/options_.resume != "auto");
      const Config saved = parse_config(manifest.config, "config.resolved.yaml");
      require_settings(saved, config_, options_.config);
      config_.checkpoints = saved.checkpoints;  // the guards of that time
      result_.from = manifest.step;
      if (manifest.step >= result_.step)
        core::fail(ExitCode::kUsage,
                   {.path = start_,
                    .field = "--resume",
                    .expected = fmt::format("a checkpoint before step {}", result_.step),
                    .found = fmt::format("step {}", manifest.step)});
      recorded_ = read_lines(run_ / "metrics.jsonl", result_.from, result_.step);
      if (recorded_.empty() && !result_.checkpoint)
        core::fail(ExitCode::kMissingInput,
                   {.path = run_,
                    .field = "--replay",
                    .expected = fmt::format("a line of metrics.jsonl for a step from {} to {}, or "
                                            "the checkpoint of step {}",
                                            result_.from + 1, result_.step, result_.step),
                    .found = "neither",
                    .hint = "give a step that was logged"});
    });
  }

  // Collective: rank 0 decides for all whether there is one to compare with.
  void find_checkpoint() {
    checkpoint_ = checkpoint_path(run_ / "checkpoints", result_.step);
    std::error_code unknown;
    const bool exists =
        session_.comm.rank() == 0 && fs::exists(checkpoint_ / kManifestName, unknown);
    result_.checkpoint = session_.comm.max(exists ? 1 : 0) > 0;
  }

  // Collective: a stop asked of one rank stops all.
  void end_if_stopping() {
    const auto asked = static_cast<unsigned>(session_.comm.bit_or(core::stop_bits()));
    if (core::is_stop(asked)) session_.comm.run_agreed([&] { core::throw_stopped(asked); });
  }

  // Collective: a rank that alone sees a difference must not leave the others behind.
  bool differs_anywhere() {
    return session_.comm.max(result_.first_difference.empty() ? 0 : 1) > 0;
  }

  void recompute(Trainer& trainer) {
    while (trainer.step_number() < result_.step && !differs_anywhere()) {
      end_if_stopping();
      const StepReport report = trainer.step();
      if (report.outcome == StepOutcome::rollback)
        differ("outcome", report.step, "a step that was done", "a rollback: " + report.note);
      else if (const auto line = recorded_.find(report.step); line != recorded_.end())
        compare_line(line->second, report);
    }
  }

  void compare_line(const json& line, const StepReport& report) {
    ++result_.lines;
    if (report.outcome == StepOutcome::forgotten) return;  // nothing was measured, then and now
    compare_value(line, "loss", report.loss, report.step);
    compare_value(line, "grad_norm", report.gradient_norm, report.step);
  }

  // JSON holds every finite double exactly, and null for the others.
  void compare_value(const json& line, const char* name, double value, int64_t step) {
    const json was = line.value(name, json()), now = value;
    if (was.dump() != now.dump()) differ(name, step, was.dump(), now.dump());
  }

  void compare_state(Trainer& trainer) {
    if (!result_.checkpoint) return;
    const StateRegistry& registry = trainer.registry();
    std::optional<StateSnapshot> snapshot;  // of rank 0
    session_.comm.run_agreed([&] {
      if (session_.comm.rank() == 0) snapshot.emplace(registry).take(registry);
    });
    gather_dealt(session_.comm, registry, snapshot ? &*snapshot : nullptr);
    session_.comm.run_agreed([&] {
      if (!snapshot) return;
      snapshot->complete(registry);
      const Manifest manifest = read_manifest(checkpoint_);
      for (const H5Source& source : snapshot->view().sources) {
        const auto entry = manifest.tensors.find(source.name);
        const std::string was = entry == manifest.tensors.end() ? "nothing" : entry->second.hash;
        if (was != source.hash) differ(source.name, result_.step, was, source.hash);
      }
      for (const auto& [name, value] : snapshot->view().values.items())
        if (manifest.values.value(name, json()) != value)
          differ(name, result_.step, manifest.values.value(name, json()).dump(), value.dump());
    });
  }

  void differ(const std::string& what, int64_t step, const std::string& was,
              const std::string& now) {
    if (!result_.first_difference.empty()) return;
    result_.first_difference = fmt::format("step {}: {}", step, what);
    result_.expected = was;
    result_.found = now;
  }

  Config config_;
  const TrainOptions& options_;
  Session& session_;
  fs::path run_, start_, checkpoint_;
  std::map<int64_t, json> recorded_;
  ReplayResult result_;
};

}  // namespace

json to_json(const ReplayResult& r) {
  const bool equal = r.first_difference.empty();
  return {{"step", r.step},
          {"from", r.from},
          {"steps_recomputed", r.step - r.from},
          {"equal", equal},
          {"first_difference", equal ? json() : json(r.first_difference)}};
}

ReplayResult replay(Config config, const TrainOptions& options, Session& session) {
  return Replay(std::move(config), options, session).execute();
}

}  // namespace trainer
