// Windows through a model that is read layer by layer: what calibration, the losses of a conversion
// and the verdict on it are computed with, whether or not the model fits into memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "model/streamed_llama.h"
#include "trainer/models/evaluate.h"

namespace trainer {

// Windows [first, first + count) of set `set`: they go through a layer at once.
struct WindowBatch {
  size_t set;
  int64_t first, count;
};

// As many batches as go through the whole model together: the weights are read once per group.
using WindowGroup = std::vector<WindowBatch>;

// All windows of all sets, in order, `batch` (at least 1) at once. A group's hidden states
// [tokens, hidden_size] take at most 256 MiB, or are those of one batch.
std::vector<WindowGroup> window_groups(const std::vector<WindowSource>& sets, int64_t hidden_size,
                                       int64_t batch);

// One window after the last norm.
struct PassedWindow {
  size_t set;
  int64_t index;
  std::vector<int32_t> ids;  // [S]
  ag::Tensor hidden;         // [S, d]
};

// A pass of all groups through a model.
class StreamedPass {
 public:
  // `title` and `groups` are of the progress lines. `weights` outlives this.
  StreamedPass(model::WeightReader& weights, const std::vector<WindowSource>& sets,
               ag::DType compute, const std::string& title, size_t groups);

  // `observe` may be empty.
  std::vector<PassedWindow> run(const WindowGroup& group,
                                const model::QueryKeyObserver& observe = {});
  void finish() { progress_.finish(); }

 private:
  model::WeightReader& weights_;
  const std::vector<WindowSource>& sets_;
  ag::DType compute_;
  core::Progress progress_;
  uint64_t layers_done_ = 0;
};

// Sums of losses over windows: nats of each window's S - 1 shifted targets.
class LossSums {
 public:
  explicit LossSums(const std::vector<WindowSource>& sets);
  void add(model::Head& head, const std::vector<PassedWindow>& windows);
  // Mean over the targets of all sets. Requires: all windows have been added.
  SetResult mean() const;

 private:
  std::vector<SetResult> sets_;  // nll: the sum
};

}  // namespace trainer
