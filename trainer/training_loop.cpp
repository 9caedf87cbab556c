// The loop of a run: step, log, validate, and at the boundary between two steps whatever was asked
// for - a checkpoint, a stop - agreed by all ranks.
#include <fmt/format.h>

#include "autograd/kernels/kernels.h"
#include "core/failpoint.h"
#include "core/stop.h"
#include "trainer/replica_check.h"
#include "trainer/training_run.h"

namespace trainer {

using core::ExitCode;
using nlohmann::json;

namespace {

// Beside the bits of core::StopBit in the word that the ranks exchange.
constexpr uint64_t kSaveFailed = uint64_t{1} << 32;  // for the last time: the run ends
constexpr uint64_t kSaveLost = uint64_t{1} << 33;    // the same step may be saved again

}  // namespace

void TrainingRun::loop() {
  const int64_t interval = config_.tokens.val_check_interval;
  // A validation that was due where the run was stopped is made up for: same log, same best.
  const int64_t n = trainer_->step_number();
  if (n == 0 || (interval > 0 && n % interval == 0 && !trainer_->finished())) validate();
  if (n == 0)
    if (const unsigned asked = agree_on_requests(); core::is_stop(asked)) stop(asked);
  while (!trainer_->finished()) {
    core::failpoint("step.begin");
    const StepReport report = step();
    if (report.outcome == StepOutcome::rollback)
      roll_back(report);
    else
      after_step(report);
    core::failpoint("step.end");
  }
}

StepReport TrainingRun::step() {
  const auto phase = watchdog_->enter(fmt::format("step {}", trainer_->step_number() + 1),
                                      std::chrono::seconds(config_.watchdog.step_seconds));
  step_log_->begin_step();
  StepReport report = trainer_->step();
  step_log_->end_step();
  if (!report.note.empty()) log_->warn(report.note);
  return report;
}

void TrainingRun::after_step(const StepReport& report) {
  const auto due = [&](int64_t interval) { return interval > 0 && report.step % interval == 0; };
  const bool last = trainer_->finished();
  if (due(config_.tokens.val_check_interval) && !last) validate();
  if (report.step == 1 || last || due(config_.logging.iteration_step_info_interval) ||
      report.outcome != StepOutcome::applied)
    log_step(report);
  if (due(config_.checkpoints.replica_check_interval)) check_replicas();
  const unsigned asked = agree_on_requests();
  if (last || due(config_.checkpoints.checkpoint_interval) || asked != 0) save();
  if (core::is_stop(asked)) stop(asked);
}

void TrainingRun::log_step(const StepReport& report) {
  log_->info(step_log_->line(report));
  const int64_t n = report.step;
  const size_t stage = data_->stage_of(n);
  const double epochs =
      static_cast<double>((n - data_->start_of(stage) + 1) * config_.tokens.global_batch_size) /
      static_cast<double>(data_->nanoset(stage).samples_per_epoch());
  session_.comm.run_agreed([&] {
    if (!root()) return;
    core::failpoint("metrics.append");
    metrics_->append(step_log_->metrics(report, trainer_->tokens_seen(), epochs));
    write_status("training");
  });
  step_log_->reset_interval();
}

void TrainingRun::validate() {
  if (sets_.empty() || validated_step_ == trainer_->step_number()) return;
  core::failpoint("validation.begin");
  const auto phase = watchdog_->enter(fmt::format("validation at step {}", trainer_->step_number()),
                                      std::chrono::seconds(config_.watchdog.validation_seconds));
  json results;
  try {
    results = to_json(trainer_->validate(sets_));
  } catch (const AgreedError& e) {
    if (e.code() != ExitCode::kPreempted) throw;
    return;
  }
  validated_step_ = trainer_->step_number();
  last_validation_ = results;
  if (validated_step_ == 0) first_validation_ = results;
  step_log_->set_validation(results.at("mean_nll"));
  std::string line = fmt::format("validation at step {}:", validated_step_);
  for (const auto& [name, windows] : sets_)
    line += fmt::format(" {} ppl {:.3f}", name, results.at(name).at("ppl").get<double>());
  log_->info(line);
  session_.comm.run_agreed([&] {
    if (!root()) return;
    json entry = {{"type", "val"},
                  {"step", validated_step_},
                  {"tokens", trainer_->tokens_seen()},
                  {"val_loss", results.at("mean_nll")},
                  {"wall_s", step_log_->wall_seconds()},
                  {"sets", results}};
    for (const auto& [name, windows] : sets_)
      entry["val_loss/" + name] = results.at(name).at("nll");
    metrics_->append(entry);
  });
}

unsigned TrainingRun::agree_on_requests() {
  uint64_t local = requests_->poll();
  if (root()) {
    if (const auto outcome = writer_->poll()) try {
        record_save(*outcome, /*must_succeed=*/false);
        if (outcome->error) local |= kSaveLost;
      } catch (...) {
        save_failure_ = to_error(std::current_exception());
        local |= kSaveFailed;
      }
  }
  const uint64_t all = session_.comm.bit_or(local);
  if ((all & kSaveFailed) != 0) session_.comm.agree(save_failure_);
  if ((all & kSaveLost) != 0) saved_step_ = -1;
  asked_ = static_cast<unsigned>(all);
  return asked_;
}

void TrainingRun::stop(unsigned asked) {
  settle_save(/*must_succeed=*/true);
  const std::string saved = session_.comm.broadcast(committed_);
  throw AgreedError(
      ExitCode::kPreempted,
      fmt::format("{}: stopped by {} at step {} of {}; {}; the same command goes on from there",
                  path_.string(), core::describe_stop(asked), trainer_->step_number(),
                  config_.tokens.train_steps,
                  saved.empty() ? "no checkpoint yet" : "checkpoint " + saved));
}

CheckpointRequest TrainingRun::checkpoint_request() const {
  json provenance = basic_provenance();
  provenance["ranks"] = session_.comm.size();
  provenance["threads_per_rank"] = config_.parallelism.threads_per_rank.count;
  provenance["isa"] = std::string(ag::name_of(ag::active_isa()));
  provenance["parent"] = parent_;
  if (validated_step_ == trainer_->step_number() && last_validation_.contains("mean_nll"))
    provenance["val_loss"] = last_validation_.at("mean_nll");
  return {.step = trainer_->step_number(),
          .config = dump_resolved(config_),
          .provenance = provenance,
          .companions = prepared_.companions};
}

void TrainingRun::save() {
  core::clear_save_now();
  if (saved_step_ == trainer_->step_number()) return;
  settle_save(/*must_succeed=*/false);
  check_replicas();
  session_.comm.run_agreed([&] {
    if (root()) writer_->start(checkpoint_request());
  });
  saved_step_ = trainer_->step_number();
}

void TrainingRun::check_replicas() {
  if (session_.comm.size() > 1) require_equal_replicas(session_.comm, trainer_->registry());
}

void TrainingRun::settle_save(bool must_succeed) {
  const auto phase =
      watchdog_->enter("checkpoint", std::chrono::seconds(config_.watchdog.checkpoint_seconds));
  session_.comm.run_agreed([&] {
    if (!root()) return;
    if (const auto outcome = writer_->wait()) record_save(*outcome, must_succeed);
  });
}

// Throws what ends the run: a state that must not be saved, or more failures than are allowed.
void TrainingRun::record_save(const SaveOutcome& outcome, bool must_succeed) {
  if (outcome.error) {
    const core::Error error = to_error(outcome.error);
    ++failed_saves_;
    if (must_succeed || error.code() == ExitCode::kNumerical ||
        failed_saves_ >= config_.checkpoints.max_failed_saves)
      throw error;
    log_->warn(fmt::format("the checkpoint of step {} failed ({} of {} in a row allowed): {}",
                           outcome.step, failed_saves_, config_.checkpoints.max_failed_saves - 1,
                           error.what()));
    return;
  }
  failed_saves_ = 0;
  parent_ = outcome.saved->manifest_hash;
  committed_ = outcome.saved->path;
  log_->info(fmt::format("ckpt committed step={} manifest={}", outcome.step,
                         outcome.saved->manifest_hash));
  if (!outcome.warning.empty()) log_->warn(outcome.warning);
  metrics_->append({{"type", "ckpt"},
                    {"step", trainer_->step_number()},
                    {"checkpoint_step", outcome.step},
                    {"manifest", outcome.saved->manifest_hash},
                    {"seconds", outcome.seconds}});
}

void TrainingRun::roll_back(const StepReport& report) {
  settle_save(/*must_succeed=*/false);
  std::string chosen;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    const auto valid = newest_valid(folder_->checkpoints(), Invalid::quarantine);
    if (!valid) return;
    for (const std::string& warning : valid->warnings) log_->warn(warning);
    chosen = valid->path;
  });
  chosen = session_.comm.broadcast(chosen);
  trainer_->roll_back(report, chosen);
  saved_step_ = trainer_->step_number();
  continue_metrics(chosen);
  log_->warn(fmt::format("back to step {} from {}", trainer_->step_number(), chosen));
}

void TrainingRun::write_status(const char* state) const {
  json status = {{"state", state}, {"step", trainer_->step_number()}};
  if (!committed_.empty()) status["checkpoint"] = committed_;
  folder_->write_status(status);
}

}  // namespace trainer
