#include "trainer/run/step_log.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/seconds.h"
#include "core/text.h"
#include "trainer/run/run_folder.h"

namespace trainer {
namespace {

double number_or_zero(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : 0;
}

}  // namespace

TimeSpent time_spent(const std::filesystem::path& metrics) {
  constexpr double kMost = 1e15;
  TimeSpent spent;
  for_each_metrics_line(metrics, [&](const nlohmann::json& line) {
    spent.wall_seconds = std::max(spent.wall_seconds, number_or_zero(line, "wall_s"));
    const double steps = number_or_zero(line, "interval_steps");
    const double seconds = number_or_zero(line, "step_time_s");
    if (!(steps >= 1 && steps <= kMost && seconds > 0 && seconds <= kMost)) return;
    spent.step_seconds += steps * seconds;
    spent.steps += static_cast<int64_t>(steps);
  });
  return spent;
}

StepLog::StepLog(int64_t train_steps, int64_t tokens_per_step)
    : train_steps_(train_steps),
      tokens_per_step_(tokens_per_step),
      start_(std::chrono::steady_clock::now()),
      begin_(start_) {}

void StepLog::go_on_from(const TimeSpent& earlier) {
  earlier_wall_seconds_ = earlier.wall_seconds;
  total_seconds_ += earlier.step_seconds;
  total_steps_ += earlier.steps;
}

void StepLog::end_step() {
  const double seconds = core::seconds_since(begin_);
  interval_seconds_ += seconds;
  total_seconds_ += seconds;
  ++interval_steps_;
  ++total_steps_;
  stepped_ = true;
}

double StepLog::interval_step_seconds() const {
  return interval_steps_ > 0 ? interval_seconds_ / static_cast<double>(interval_steps_) : 0;
}

double StepLog::tokens_per_second() const {
  return total_seconds_ > 0 ? static_cast<double>(total_steps_ * tokens_per_step_) / total_seconds_
                            : 0;
}

double StepLog::wall_seconds() const { return earlier_wall_seconds_ + core::seconds_since(start_); }

std::string StepLog::line(const StepReport& r) const {
  const double step_seconds = interval_step_seconds();
  const double rate = step_seconds > 0 ? static_cast<double>(tokens_per_step_) / step_seconds : 0;
  const auto width = std::to_string(train_steps_).size();
  std::string line =
      fmt::format("step {:>{}}/{} | loss {:.6f}", r.step, width, train_steps_, r.loss);
  if (r.outcome == StepOutcome::skipped) line += " | skipped";
  if (r.outcome == StepOutcome::forgotten) line += " | left out after a rollback";
  if (validation_) line += fmt::format(" | val {:.4f}", *validation_);
  return line +
         fmt::format(
             " | gnorm {:.3f} | lr {:.2e} | {} tok/s | {:.3g} s/step | mem {} | eta {}",
             r.gradient_norm, r.learning_rate, core::format_count(rate), step_seconds,
             core::format_bytes(static_cast<uint64_t>(peak_resident_bytes())),
             core::format_duration(static_cast<double>(train_steps_ - r.step) * step_seconds));
}

nlohmann::json StepLog::metrics(const StepReport& r, int64_t tokens_seen, double epochs) const {
  const double step_seconds = interval_step_seconds();
  nlohmann::json metrics = {
      {"type", "train"},
      {"step", r.step},
      {"tokens", tokens_seen},
      {"lr", r.learning_rate},
      {"step_time_s", step_seconds},
      {"interval_steps", interval_steps_},
      {"tokens_per_s", step_seconds > 0 ? static_cast<double>(tokens_per_step_) / step_seconds : 0},
      {"wall_s", wall_seconds()},
      {"epoch", epochs},
      {"rss_bytes", peak_resident_bytes()}};
  if (r.outcome != StepOutcome::applied) metrics["skipped"] = true;
  if (r.outcome == StepOutcome::forgotten) return metrics;  // nothing was measured
  metrics["loss"] = r.loss;
  metrics["grad_norm"] = r.gradient_norm;
  return metrics;
}

void StepLog::reset_interval() {
  interval_seconds_ = 0;
  interval_steps_ = 0;
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace trainer
