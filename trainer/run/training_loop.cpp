// The loop of a run: step, log, validate, and at the boundary between two steps whatever was asked
// for - a checkpoint, a stop - agreed by all ranks.
#include <fmt/format.h>

#include "autograd/kernels/kernels.h"
#include "core/failpoint.h"
#include "core/stop.h"
#include "trainer/checkpoint/replica_check.h"
#include "trainer/run/training_run.h"

namespace trainer {

using core::ExitCode;
using nlohmann::json;

void TrainingRun::loop() {
  const int64_t interval = config_.tokens.val_check_interval;
  // A validation that was due where the run was stopped is made up for: same log, same best.
  const int64_t n = trainer_->step_number();
  if (n == 0 || (interval > 0 && n % interval == 0 && !trainer_->finished())) {
    validate();
    if (const unsigned asked = agree_on_requests(); core::is_stop(asked)) stop(asked);
  }
  while (!trainer_->finished()) {
    core::failpoint("step.begin");
    const StepReport report = step();
    const auto boundary = boundary_phase(fmt::format("boundary after step {}", report.step));
    if (report.outcome == StepOutcome::rollback)
      roll_back(report);
    else
      after_step(report);
    core::failpoint("step.end");
  }
}

// Whatever happens between two steps has its limit too: what is nested has its own.
Watchdog::Phase TrainingRun::boundary_phase(const std::string& name) {
  const WatchdogConfig& w = config_.watchdog;
  const bool limited = w.validation_seconds > 0 && w.checkpoint_seconds > 0;
  return phase(name, limited ? w.validation_seconds + w.checkpoint_seconds : 0);
}

StepReport TrainingRun::step() {
  const auto stepping =
      phase(fmt::format("step {}", trainer_->step_number() + 1), config_.watchdog.step_seconds);
  step_log_->begin_step();
  StepReport report = trainer_->step();
  if (report.outcome == StepOutcome::applied || report.outcome == StepOutcome::skipped)
    step_log_->end_step();
  status_->set_step(trainer_->step_number());
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
  const unsigned asked = agree_on_requests();
  if (last || due(config_.checkpoints.checkpoint_interval) || asked != 0)
    save();  // which compares the replicas as well
  else if (due(config_.checkpoints.replica_check_interval) && session_.comm.size() > 1)
    require_equal_replicas(session_.comm, trainer_->registry());
  if (core::is_stop(asked)) stop(asked);
}

void TrainingRun::log_step(const StepReport& report) {
  log_->info(step_log_->line(report));
  const int64_t n = report.step;
  const size_t stage = data_->stage_of(n);
  const double epochs =
      static_cast<double>((n - data_->start_of(stage) + 1) * config_.tokens.global_batch_size) /
      static_cast<double>(data_->nanoset(stage).samples_per_epoch());
  if (root()) {
    append_metrics(step_log_->metrics(report, trainer_->tokens_seen(), epochs));
    write_status("training");
  }
  step_log_->reset_interval();
}

void TrainingRun::validate() {
  if (sets_.empty() || validated_step_ == trainer_->step_number()) return;
  core::failpoint("validation.begin");
  const auto validating = phase(fmt::format("validation at step {}", trainer_->step_number()),
                                config_.watchdog.validation_seconds);
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
  if (!root()) return;
  validation_losses_[validated_step_] = results.at("mean_nll").get<double>();
  json entry = {{"type", "val"},
                {"step", validated_step_},
                {"tokens", trainer_->tokens_seen()},
                {"val_loss", results.at("mean_nll")},
                {"wall_s", step_log_->wall_seconds()},
                {"sets", results}};
  for (const auto& [name, windows] : sets_) entry["val_loss/" + name] = results.at(name).at("nll");
  append_metrics(entry);
}

unsigned TrainingRun::agree_on_requests() {
  const uint64_t all = session_.comm.bit_or(requests_->poll() | saver_->poll());
  saver_->agree(all);
  asked_ = static_cast<unsigned>(all);
  return asked_;
}

void TrainingRun::stop(unsigned asked) {
  {
    const auto saving = phase("checkpoint before the stop", config_.watchdog.checkpoint_seconds);
    saver_->settle(/*must_succeed=*/true);
    flush_metrics();
  }
  const std::string saved = session_.comm.broadcast(saver_->committed());
  throw AgreedError(
      ExitCode::kPreempted,
      fmt::format("{}: stopped by {} at step {} of {}; {}; started again it goes on from there",
                  path_.string(), core::describe_stop(asked), trainer_->step_number(),
                  config_.tokens.train_steps,
                  saved.empty() ? "no checkpoint yet" : "checkpoint " + saved));
}

CheckpointRequest TrainingRun::checkpoint_request() const {
  json provenance = basic_provenance();
  provenance["ranks"] = session_.comm.size();
  provenance["threads_per_rank"] = config_.parallelism.threads_per_rank.count;
  provenance["isa"] = std::string(ag::name_of(ag::active_isa()));
  if (validated_step_ == trainer_->step_number() && last_validation_.contains("mean_nll"))
    provenance["val_loss"] = last_validation_.at("mean_nll");
  return {.config = dump_resolved(config_),
          .provenance = provenance,
          .companions = prepared_.companions,
          .require_place = [this] { folder_->require_in_place(); },
          .validation_losses = validation_losses_};
}

void TrainingRun::save() {
  core::clear_save_now();
  const auto saving = phase(fmt::format("checkpoint of step {}", trainer_->step_number()),
                            config_.watchdog.checkpoint_seconds);
  saver_->save(trainer_->step_number(), [this] { return checkpoint_request(); });
}

// One that the run would have written undisturbed, too, and from before all that is left out: so
// that stops and their checkpoints do not decide what is trained.
std::string TrainingRun::choose_rollback(int64_t bad_step) {
  const CheckpointsConfig& c = config_.checkpoints;
  const auto scheduled = [&](int64_t step) { return step % c.checkpoint_interval == 0; };
  const auto before = [&](int64_t step) {
    return scheduled(step) && step <= bad_step - c.rollback_skip_steps;
  };
  const auto any = [](int64_t) { return true; };
  std::string chosen;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    std::optional<ValidCheckpoint> valid;
    for (const std::function<bool(int64_t)>& wanted : {std::function(before), {scheduled}, {any}})
      if (!valid) valid = newest_valid(folder_->checkpoints(), Invalid::quarantine, wanted);
    if (!valid) return;
    for (const std::string& warning : valid->warnings) log_->warn(warning);
    chosen = valid->path;
  });
  return session_.comm.broadcast(chosen);
}

void TrainingRun::roll_back(const StepReport& report) {
  saver_->settle(/*must_succeed=*/false);
  flush_metrics();
  const std::string chosen = choose_rollback(report.step);
  trainer_->roll_back(report, chosen);
  saver_->resume_from(trainer_->step_number(), chosen);
  status_->set_checkpoint(chosen);
  continue_metrics(chosen);
  log_->warn(fmt::format("back to step {} from {}", trainer_->step_number(), chosen));
}

// A log that cannot be written is no reason to lose the run: the lines wait, and at the end they
// must go out.
void TrainingRun::append_metrics(const json& line) {
  try {
    core::failpoint("metrics.append");
    metrics_->append(line);
    metrics_fail_ = false;
  } catch (const core::Error& e) {
    warn_once(metrics_fail_, e);
  }
  copy_metrics([&] {
    if (copies_ != nullptr) copies_->append(line);
  });
}

void TrainingRun::continue_copies(int64_t resumed_step) {
  copy_metrics([&] { copies_ = std::make_unique<MetricsCopies>(path_, resumed_step); });
}

// What can be made again from metrics.jsonl is not worth a stop, nor a second try.
void TrainingRun::copy_metrics(const std::function<void()>& copy) {
  try {
    copy();
  } catch (const core::Error& e) {
    copies_.reset();
    log_->warn(fmt::format("no metrics.csv and TensorBoard events from here on: {}", e.what()));
  }
}

// The lines of a checkpoint's steps are durable before it is there.
void TrainingRun::sync_metrics() {
  try {
    metrics_->sync();
    metrics_fail_ = false;
  } catch (const core::Error& e) {
    warn_once(metrics_fail_, e);
  }
}

void TrainingRun::write_status(const char* state) {
  try {
    status_->write(state);
    status_fails_ = false;
  } catch (const core::Error& e) {
    warn_once(status_fails_, e);
  }
}

void TrainingRun::warn_once(bool& warned, const core::Error& error) {
  if (!std::exchange(warned, true)) log_->warn(fmt::format("not fatal yet: {}", error.what()));
}

void TrainingRun::flush_metrics() {
  session_.comm.run_agreed([&] {
    if (root()) metrics_->sync();
  });
}

}  // namespace trainer
