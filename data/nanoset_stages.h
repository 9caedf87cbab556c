// The micro-batches of a run: which data stage a step belongs to, and which samples it reads.
//   step n (1-based) of a stage that starts at step a, micro-batch m, row b reads sample
//   (n - a) * global_batch_size + m * micro_batch_size + b   of the stage.
// A function of the step alone; ranks do not appear in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/nanoset.h"

namespace data {

struct DataStage {
  std::string name;
  int64_t start_training_step = 1;
  std::vector<std::filesystem::path> folders;
  std::vector<double> weights;
  int64_t seed = 0;
};

struct BatchPlan {
  int64_t sequence_length = 0;    // S
  int64_t micro_batch_size = 0;   // B, sequences
  int64_t global_batch_size = 0;  // sequences; a multiple of B
  int64_t train_steps = 0;
  int64_t vocab_size = 0;
};

class NanosetStages {
 public:
  // Opens and checks every stage. Throws kBadConfig when the first stage does not start at step 1,
  // the starts do not rise, a stage starts after the last step, the global batch is no multiple of
  // the micro-batch, or a stage has fewer samples than one global batch.
  NanosetStages(const std::vector<DataStage>& stages, const BatchPlan& plan);

  int64_t micro_batches() const { return plan_.global_batch_size / plan_.micro_batch_size; }

  // Index of the stage that step `step` of [1, train_steps] belongs to.
  size_t stage_of(int64_t step) const;
  int64_t start_of(size_t stage) const { return starts_[stage]; }
  const std::string& name_of(size_t stage) const { return names_[stage]; }
  const Nanoset& nanoset(size_t stage) const { return nanosets_[stage]; }
  size_t size() const { return nanosets_.size(); }

  // inputs [B, S] are tokens [0, S) of each sample, targets [B, S] tokens [1, S].
  // Requires: micro_index in [0, micro_batches()).
  void read_micro_batch(int64_t step, int64_t micro_index, int32_t* inputs, int32_t* targets) const;

  void check_vocab(int64_t vocab_size) const;
  nlohmann::json describe() const;
  std::string fingerprint() const;

 private:
  BatchPlan plan_;
  std::vector<int64_t> starts_;
  std::vector<std::string> names_;
  std::vector<Nanoset> nanosets_;
};

}  // namespace data
