// Parameters and their flat storage:
//   master  f32 (f64 for checks): what the optimizer updates and checkpoints hold
//   working bf16 copy of the matrices when computing in bf16; else the master itself
//   gradient wide, one flat buffer that the trainer selects (gradient shards)
// Trainable parameters come first and are contiguous, so the optimizer, the clip and the all-reduce
// each see one slice.
//
// The stores of several ranks may deal the optimizer's work: each updates its share of the
// trainable elements, and the others take the outcome from it (working_parts). When computing in
// bf16 a store then keeps the masters of its share alone, and a full wide copy of the vectors to
// compute with.
#pragma once

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "autograd/core/share.h"
#include "autograd/core/tensor.h"

namespace ag {

class ParamStore;

struct Param {
  std::string name;  // path, e.g. layers.3.attn.kv_down.weight
  Shape shape;       // [out, in] or [out]
  bool trainable = true;
  int64_t offset = 0;  // elements into the flat master; into the flat gradient when trainable
  Tensor master;       // wide; undefined in a store that keeps a share of the masters
  Tensor kept;         // [n] wide: the masters that this store keeps, elements of part_of()
  Tensor working;      // compute dtype for matrices, else the master or a copy of it
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
  // `share`: of the optimizer's work and, in bf16, of the masters.
  ParamStore(const std::vector<Declaration>& declarations, DType compute, const Share& share = {});
  ParamStore(const ParamStore&) = delete;
  ParamStore& operator=(const ParamStore&) = delete;

  Param& at(const std::string& name);    // throws kInternal for an unknown name
  Param* find(const std::string& name);  // null for an unknown name
  std::deque<Param>& all() { return params_; }
  const std::deque<Param>& all() const { return params_; }

  DType compute_dtype() const { return compute_; }
  DType wide_dtype() const { return wide_of(compute_); }
  int64_t trainable_numel() const { return trainable_numel_; }  // with alignment gaps
  const Share& share() const { return share_; }
  // The trainable elements that this store updates, of [0, trainable_numel()).
  ElementRange own_range() const { return range_of(trainable_numel_, share_); }
  // True when this store keeps a share of the masters only.
  bool masters_are_dealt() const { return share_.count > 1 && compute_ == DType::bf16; }
  // The elements of `param` that belong to the share `index`; of `kept` where masters are dealt.
  ElementRange part_of(const Param& param, int64_t index) const;

  // Sets master (converted to wide) and working from any floating tensor of the same shape.
  void load(Param& param, const Tensor& values);
  // Re-derives every working copy from the master, e.g. after a checkpoint has been read into it.
  // Requires: masters are not dealt.
  void refresh_working();

  // own_range() of the masters and of the bf16 copy (undefined Tensor when there is none).
  Tensor own_master() const;
  Tensor own_working() const;
  // After own_master() and own_working() have changed: the copies of the vectors in own_range().
  void refresh_own_vectors();
  // What the share `index` updates of all that is computed with: flat, few, live. Equal in the
  // stores of all shares once each part has been taken from the store of its share. Requires:
  // several shares.
  std::vector<Tensor> working_parts(int64_t index) const;

  // The gradient buffer into which backward accumulates; wide, [trainable_numel()].
  void select_gradient(Tensor flat);
  const Tensor& selected_gradient() const { return gradient_; }
  Tensor make_gradient() const { return Tensor::zeros({trainable_numel_}, wide_dtype()); }

 private:
  friend struct Param;
  void place_params();
  void place_dealt_params();
  // Elements of all vectors, with their gaps, that stand before the element `flat`.
  int64_t vector_elements_before(int64_t flat) const;

  DType compute_;
  Share share_;
  std::deque<Param> params_;  // a deque: addresses stay
  std::unordered_map<std::string, Param*> by_name_;
  Tensor master_, working_, gradient_;
  Tensor vectors_;  // where masters are dealt: all vectors, wide, in the order of their offsets
  int64_t trainable_numel_ = 0, numel_ = 0;
};

}  // namespace ag
