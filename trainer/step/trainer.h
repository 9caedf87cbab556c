// The training loop. One step: for each own gradient shard, for each of its micro-batches forward
// and backward; sum the shards over the ranks; clip; update. Results depend on configuration and
// data alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/nanoset_stages.h"
#include "model/llama.h"
#include "trainer/checkpoint/state_registry.h"
#include "trainer/config/config.h"
#include "trainer/models/evaluate.h"
#include "trainer/ranks/gradient_buckets.h"
#include "trainer/ranks/gradient_reduction.h"
#include "trainer/step/optimizer.h"
#include "trainer/step/schedule.h"
#include "trainer/step/step_guard.h"

namespace trainer {

// What became of a step; equal on every rank.
struct StepReport {
  int64_t step = 0;          // 1-based
  double loss = 0;           // mean over the global batch's target tokens, nats, before the update
  double gradient_norm = 0;  // before clipping; NaN, like the loss, for a forgotten step
  double learning_rate = 0;
  StepOutcome outcome = StepOutcome::applied;
  std::string note = {};  // a warning about this step; usually empty
};

// Validation sets with their names, in the order of the configuration.
using ValidationSets = std::vector<std::pair<std::string, data::EvalWindows>>;
ValidationSets open_validation_sets(const Config& config, int64_t vocab_size);

// Opens the mixture of the configuration; throws what NanosetStages throws.
data::NanosetStages open_training_data(const Config& config, int64_t vocab_size);

class Trainer {
 public:
  // `config` is resolved (threads set), `data` opened for this model's vocabulary. Keeps references
  // to `comm` and `data`.
  Trainer(const Config& config, Comm& comm, const model::Model& model,
          const data::NanosetStages& data);

  // Updates done so far.
  int64_t step_number() const { return step_; }
  int64_t tokens_seen() const { return tokens_; }
  bool finished() const { return step_ >= config_.tokens.train_steps; }

  // Does the next step: an update, unless the guard finds loss or gradient bad before it. After
  // `rollback` nothing has changed, and the step waits for roll_back(). Throws
  // AgreedError(kNumerical) on all ranks, before any parameter changes, when the guard says stop;
  // the message names the tensor.
  StepReport step();

  // Collective. After a rollback of `bad`: loads the newest checkpoint and leaves out, on the way
  // again, the last checkpoints.rollback_skip_steps steps up to the bad one. All else is done again
  // with the same data and learning rates. Requires: `checkpoint` was verified; empty: there is
  // none. Throws AgreedError(kNumerical) when there is none, and after StepGuard::kMaxRollbacks.
  void roll_back(const StepReport& bad, const std::filesystem::path& checkpoint);
  // The steps [first, last] will not be computed; counts as a rollback. Part of the state.
  void forget_and_skip(int64_t first, int64_t last) { guard_.forget(first, last); }
  const StepGuard& guard() const { return guard_; }

  std::vector<SetResult> validate(const ValidationSets& sets);

  model::Llama& model() { return model_; }
  // All that a checkpoint must hold: parameters, kept pairs, moments, counters, the data's
  // fingerprint.
  StateRegistry& registry() { return registry_; }
  // After the registry has been filled from a checkpoint.
  void refresh_after_load();

 private:
  struct MicroStep;
  std::unique_ptr<MicroStep> forward(int64_t step, int64_t micro_batch);
  // All own micro-batches of the step but the last one's backward. `losses`: the sum of each shard.
  std::unique_ptr<MicroStep> run_all_but_last(int64_t step,
                                              std::vector<std::vector<double>>& losses);
  // Collective. Gradients of own shards into the reduction; the loss sum of each.
  std::vector<std::vector<double>> run_own_shards(int64_t step);
  // Loss and gradient of the step, their judgement, and the update if it is applied.
  void compute_and_judge(StepReport& report);
  std::string describe_nonfinite(const StepReport& report, const ag::Tensor& gradient) const;
  void register_state();
  void register_params();

  Config config_;
  Comm& comm_;
  const data::NanosetStages& data_;
  model::Llama model_;
  AdamW optimizer_;
  Schedule schedule_;
  ShardTree tree_;
  GradientReduction reduction_;
  GradientBuckets buckets_;
  StepGuard guard_;
  StateRegistry registry_;
  std::vector<int32_t> inputs_, targets_;  // one micro-batch on the host
  int64_t step_ = 0, tokens_ = 0;
};

}  // namespace trainer
