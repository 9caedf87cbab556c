// Whether an update is applied: the answer to losses and gradients that are not finite, and to
// sudden rises of the loss,
//   z = (loss - mean(window)) / max(deviation(window), 0.001 |mean|),  window: last 200 applied
//   losses
// Its memory is state of the run: it judges the same whatever the ranks and the interruptions.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "trainer/checkpoint/state_registry.h"
#include "trainer/config/sections.h"

namespace trainer {

class Comm;

enum class StepOutcome {
  applied,
  skipped,    // judged bad: parameters and moments stay, the step counts
  forgotten,  // left out after a rollback, not even computed; the step counts
  rollback,   // judged bad: nothing has changed, and the caller sets the run back
};

class StepGuard {
 public:
  static constexpr int64_t kMaxRollbacks = 5;    // of a run
  static constexpr size_t kWindow = 200;         // losses
  static constexpr size_t kShortestWindow = 32;  // no spike is seen in fewer

  // What is known of a step before its update; equal on every rank.
  struct Evidence {
    int64_t step = 0;
    double loss = 0, gradient_norm = 0;
    // Names what is not finite; asked only then.
    std::function<std::string()> nonfinite;
  };
  struct Judgement {
    StepOutcome outcome = StepOutcome::applied;  // never forgotten
    std::string note;                            // one line for the log; empty: nothing to tell
  };

  explicit StepGuard(const CheckpointsConfig& config) : config_(config) {}
  StepGuard(const StepGuard&) = delete;  // the registry refers to it
  StepGuard& operator=(const StepGuard&) = delete;

  // Requires: the guard outlives `registry`.
  void register_state(StateRegistry& registry);

  // Judges the update of a step and remembers it. Throws AgreedError(kNumerical), with nothing
  // remembered, when the configuration says stop, and when more than max_skipped_steps in a row
  // would be skipped: on all ranks, if their evidence is the same.
  Judgement judge(const Evidence& evidence);
  // Collective. The same, once all ranks have judged alike; else throws
  // AgreedError(kReplicasDiffer).
  Judgement judge(const Evidence& evidence, Comm& comm);

  bool is_forgotten(int64_t step) const;
  // The steps [first, last] are left out from now on. Counts as a rollback; throws
  // AgreedError(kNumerical) on all ranks after kMaxRollbacks of them.
  void forget(int64_t first, int64_t last);

  int64_t skipped_steps() const { return skipped_; }
  int64_t rollbacks() const { return rollbacks_; }

 private:
  Judgement act(const std::string& action, const Evidence& evidence, const core::Fault& fault);
  Judgement skip(const Evidence& evidence, const core::Fault& fault);
  void load_forgotten(const nlohmann::json& value);
  void add_forgotten(int64_t first, int64_t last);

  CheckpointsConfig config_;
  std::deque<double> losses_;  // oldest first
  int64_t skipped_ = 0;        // in all; of the newest series of consecutive ones
  int64_t series_first_ = 0, series_last_ = 0;
  std::map<int64_t, int64_t> forgotten_;  // first -> last, disjoint
  int64_t rollbacks_ = 0;
};

// Standard deviations by which `loss` is above the mean of `window`; 0 for a short window.
double loss_z_score(const std::deque<double>& window, double loss);

}  // namespace trainer
