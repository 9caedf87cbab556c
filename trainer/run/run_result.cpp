// What a finished run leaves: result.json, the last lines of the log, the final status.
#include <fmt/format.h>

#include "core/failpoint.h"
#include "core/file.h"
#include "core/stop.h"
#include "core/text.h"
#include "trainer/run/training_run.h"

namespace trainer {

using nlohmann::json;

json TrainingRun::finish() {
  const auto finishing = boundary_phase("finish");
  validate();
  const unsigned asked = agree_on_requests();
  save();  // only if the save of the last step has failed meanwhile
  if (core::is_stop(asked)) stop(asked);
  saver_->settle(/*must_succeed=*/true);
  flush_metrics();
  const json outcome = result();
  session_.comm.run_agreed([&] {
    if (!root()) return;
    core::failpoint("result.before");
    core::write_file_atomically(path_ / "result.json", outcome.dump(2) + "\n");
    core::failpoint("result.after");
  });
  say_done(outcome);
  return outcome;
}

json TrainingRun::finish_again() {
  log_->info("finished already; raise tokens.train_steps to train on");
  say_done(earlier_result_);
  return earlier_result_;
}

void TrainingRun::say_done(const json& outcome) {
  session_.comm.run_agreed([&] { status_->write_done(outcome.at("steps").get<int64_t>()); });
  const json speed = outcome.value("tokens_per_second", json());
  log_->info(fmt::format("done: {} steps{}; model {}", outcome.at("steps").dump(),
                         speed.is_number()
                             ? ", " + core::format_count(speed.get<double>()) + " tokens/s"
                             : std::string(),
                         path_.string()));
  log_->info("next: mha2mla generate " + path_.string() + " --prompt \"The\"");
}

json TrainingRun::result() const {
  const model::ModelSpec& spec = trainer_->model().spec();
  json validation = {{prepared_.converted ? "converted" : "start", first_validation_},
                     {"recovered", last_validation_}};
  if (prepared_.converted) validation["source"] = prepared_.source_validation;
  json outcome = {{"run", path_.string()},
                  {"steps", trainer_->step_number()},
                  {"tokens", trainer_->tokens_seen()},
                  {"seconds", step_log_->wall_seconds()},
                  {"ranks", session_.comm.size()},
                  {"threads_per_rank", config_.parallelism.threads_per_rank.count},
                  {"parameters", spec.parameter_count()},
                  {"validation", validation},
                  {"protocol", sets_.empty() ? "" : sets_.front().second.protocol()},
                  {"cache_bytes_per_token",
                   {{"before", 2 * prepared_.source_cache_elements},
                    {"after", 2 * spec.cache_elements_per_token()}}},
                  {"parity", prepared_.parity}};
  const double speed = step_log_->tokens_per_second();
  if (speed > 0) outcome["tokens_per_second"] = speed;
  if (step_log_->has_stepped()) return outcome;
  // A process that found the run finished has trained nothing.
  for (const char* key : {"tokens_per_second", "seconds", "ranks", "threads_per_rank"})
    if (earlier_result_.contains(key)) outcome[key] = earlier_result_[key];
  return outcome;
}

}  // namespace trainer
