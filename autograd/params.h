// Parameters and their flat storage:
//   master  f32 (f64 for checks): what the optimizer updates and checkpoints hold
//   working bf16 copy of the matrices when computing in bf16; else the master itself
//   gradient wide, one flat buffer that the trainer selects (gradient shards)
// Trainable parameters come first and are contiguous, so the optimizer, the clip and the all-reduce
// each see one slice.
#pragma once

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "autograd/core/tensor.h"

namespace ag {

class ParamStore;

struct Param {
  std::string name;  // path, e.g. layers.3.attn.kv_down.weight
  Shape shape;       // [out, in] or [out]
  bool trainable = true;
  int64_t offset = 0;  // elements into the flat master; into the flat gradient when trainable
  Tensor master;       // wide
  Tensor working;      // compute dtype for matrices, else the master
  ParamStore* store = nullptr;

  // The slice of the selected gradient buffer. Requires: trainable, a buffer is selected.
  Tensor gradient() const;
};

class ParamStore {
 public:
  struct Declaration {
    std::string name;
    Shape shape;
    bool trainable;
  };

  // `compute` is f32, bf16 or f64. Values are undefined until load() has been called for each.
  ParamStore(const std::vector<Declaration>& declarations, DType compute);
  ParamStore(const ParamStore&) = delete;
  ParamStore& operator=(const ParamStore&) = delete;

  Param& at(const std::string& name);    // throws kInternal for an unknown name
  Param* find(const std::string& name);  // null for an unknown name
  std::deque<Param>& all() { return params_; }
  const std::deque<Param>& all() const { return params_; }

  DType compute_dtype() const { return compute_; }
  DType wide_dtype() const { return wide_of(compute_); }
  int64_t trainable_numel() const { return trainable_numel_; }  // with alignment gaps

  // Sets master (converted to wide) and working from any floating tensor of the same shape.
  void load(Param& param, const Tensor& values);
  // Re-derives every working copy from the master, e.g. after a checkpoint has been read into it.
  void refresh_working();

  // The trainable part of master [1, n] and of the bf16 copy (undefined Tensor when not kept).
  Tensor trainable_master() const;
  Tensor trainable_working() const;

  // The gradient buffer into which backward accumulates; wide, [trainable_numel()].
  void select_gradient(Tensor flat);
  const Tensor& selected_gradient() const { return gradient_; }
  Tensor make_gradient() const { return Tensor::zeros({trainable_numel_}, wide_dtype()); }

 private:
  friend struct Param;
  DType compute_;
  std::deque<Param> params_;  // a deque: addresses stay
  std::unordered_map<std::string, Param*> by_name_;
  Tensor master_, working_, gradient_;
  int64_t trainable_numel_ = 0;
};

}  // namespace ag
