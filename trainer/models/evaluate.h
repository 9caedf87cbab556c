// Held-out loss over the windows of a shard: the protocol of data/eval_windows.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/eval_windows.h"
#include "model/llama.h"

namespace trainer {

class Comm;

// Windows of S ids each, wherever they come from.
struct WindowSource {
  std::string name = {}, protocol = {}, fingerprint = {};
  int64_t count = 0, sequence_length = 0;
  // Ids of window `index` of [0, count) to `out` [S].
  std::function<void(int64_t index, int32_t* out)> read = {};
};

struct SetResult {
  std::string name;
  double nll = 0;      // mean over all targets, nats
  double ppl = 0;      // exp(nll)
  int64_t tokens = 0;  // targets
  std::string protocol;
};

// Windows are dealt to the ranks of `comm` (null: this process does them all); every rank gets the
// same bits for any number of ranks, because each window's sum is made whole before they are added
// in order. `batch` windows go through the model at once. `progress(done windows)` may be empty.
SetResult evaluate(model::Llama& model, const data::EvalWindows& windows, const std::string& name,
                   int64_t batch, Comm* comm, const std::function<void(int64_t)>& progress = {});
SetResult evaluate(model::Llama& model, const WindowSource& windows, int64_t batch, Comm* comm,
                   const std::function<void(int64_t)>& progress = {});

// Throws kBadConfig naming the set: windows of two ids or more, one of them or more, and a batch.
void require_windows(const WindowSource& windows, int64_t batch);

// All sets together: mean over the targets of all.
SetResult combine(const std::vector<SetResult>& sets);

// Ids of windows [first, first + n) in one tensor [n * S] i32.
ag::Tensor read_windows(const WindowSource& windows, int64_t first, int64_t n);

}  // namespace trainer
