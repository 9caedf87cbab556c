// One line per logged step, for people and for metrics.jsonl; the averages between two lines.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "trainer/step/trainer.h"

namespace trainer {

// What a run had taken before this process went on with it, as far as its log tells.
struct TimeSpent {
  double wall_seconds = 0;
  double step_seconds = 0;  // of that in `steps` steps
  int64_t steps = 0;
};

// Of the lines in a metrics.jsonl, which need not be there.
TimeSpent time_spent(const std::filesystem::path& metrics);

class StepLog {
 public:
  StepLog(int64_t train_steps, int64_t tokens_per_step);

  // Seconds and speed of the run count from there on.
  void go_on_from(const TimeSpent& earlier);

  // Call around the work of a step; validation and checkpoints do not count as step time.
  // Not called for a step that was left out or undone.
  void begin_step() { begin_ = std::chrono::steady_clock::now(); }
  void end_step();
  // Whether a step has ended in this process.
  bool has_stepped() const { return stepped_; }

  // Mean validation loss, shown until there is a newer one.
  void set_validation(double loss) { validation_ = loss; }

  //  step   500/12000 | loss 2.843217 | val 2.8610 | gnorm 0.412 | lr 4.17e-05 | 41.2k tok/s | 1.59
  //  s/step | mem 3.1 GiB | eta 05:04:12
  std::string line(const StepReport& report) const;
  nlohmann::json metrics(const StepReport& report, int64_t tokens_seen, double epochs) const;
  // Starts a new average.
  void reset_interval();

  // Of the run, whichever processes took part in it.
  double tokens_per_second() const;  // over all steps; 0 if there was none
  double wall_seconds() const;

 private:
  double interval_step_seconds() const;

  int64_t train_steps_, tokens_per_step_;
  std::chrono::steady_clock::time_point start_, begin_;
  double interval_seconds_ = 0, total_seconds_ = 0;
  double earlier_wall_seconds_ = 0;
  int64_t interval_steps_ = 0, total_steps_ = 0;
  bool stepped_ = false;
  std::optional<double> validation_;
};

// Largest resident set of this process so far.
int64_t peak_resident_bytes();

}  // namespace trainer
