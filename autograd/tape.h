// Reverse-mode differentiation on a flat tape.
//
//  1. Forward is eager. record() appends; index order is a topological order: no sort, no graph of
//     pointers, no recursion.
//  2. The fields of an op record are exactly what is kept for the backward. A field is kept only if
//     the gradient that needs it is wanted.
//  3. backward() takes the last node, runs it, drops its output gradient, destroys it, goes on.
//  4. A gradient destination says overwrite or accumulate; the first writer overwrites. Nothing is
//     zero-filled but the flat gradient buffer of the parameters.
//  5. pass() shares a gradient; a shared gradient is cloned before anyone adds to it (counted: the
//     gradient of the residual stream never is, with or without recompute).
//  6. Gradients of parameters are slices of the selected flat buffer and always accumulate, so
//     micro-batches need no code.
//  7. A parameter's gradient is final when the tape has popped its first use: on_param_final fires.
//  8. If no input wants a gradient, nothing is recorded and nothing is kept: frozen layers cost
//     nothing.
//  9. First order only. No in-place op on a Value, no broadcasting, no promotion.
// 10. A Tape lives on the stack of one micro-step; a Value never outlives its Tape.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "autograd/core/tensor.h"
#include "autograd/params.h"

namespace ag {

class Tape;

// What model code passes around.
struct Value {
  Tensor data;
  Tape* tape = nullptr;
  int32_t slot = -1;  // of its gradient; negative: none wanted

  bool wants_gradient() const { return slot >= 0; }
};

// All that the backward of a record may touch.
class Grads {
 public:
  Grads(Tape& tape, Tensor& out, const std::vector<int32_t>& inputs)
      : tape_(tape), out_(out), inputs_(inputs) {}

  const Tensor& out() const { return out_; }  // dL/dy
  // dL/dy, given up by this tape: whoever takes it may be its only owner and add to it in place.
  Tensor take_out() { return std::move(out_); }
  bool wants(int i) const { return inputs_[static_cast<size_t>(i)] >= 0; }
  // Destination of dL/dx_i, to be written right away: `accumulate` says how.
  View in(int i);
  // The same, as a view with null data when input i wants none.
  View in_or_null(int i) { return wants(i) ? in(i) : View{}; }
  // dL/dx_i is this very tensor; no copy is made.
  void pass(int i, const Tensor& gradient);

 private:
  Tape& tape_;
  Tensor& out_;
  const std::vector<int32_t>& inputs_;
};

// An op record: an aggregate with a name, the saved fields, and a backward.
template <class O>
concept OpRecord = requires(O op, Grads& g) {
  { O::kName } -> std::convertible_to<const char*>;
  op.backward(g);
};

class Tape {
 public:
  enum class Mode { kRecord, kOff };  // kOff: evaluation, and the first pass of recompute

  // `parent`: the tape for which this one recomputes; it learns the uses and counts the clones.
  explicit Tape(Mode mode = Mode::kRecord, Tape* parent = nullptr) : mode_(mode), parent_(parent) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool recording() const { return mode_ == Mode::kRecord; }

  // A parameter as a Value (its working copy); notes the first use.
  Value use(Param& param);
  Value constant(Tensor data) { return {std::move(data), this, -1}; }
  // An input whose gradient can be asked for after backward().
  Value leaf(Tensor data);

  // `force` records although no input wants a gradient: recompute of a block with parameters.
  template <OpRecord O>
  Value record(O op, std::initializer_list<Value> inputs, Tensor out, bool force = false) {
    if (!wants_record(inputs, force)) return constant(std::move(out));
    return push(std::make_unique<Boxed<O>>(std::move(op)), inputs, std::move(out));
  }

  // Runs the tape backwards from `output` (which must be its last node) with dL/d(output) = seed,
  // and empties it. `seed` has the shape and type of output. Does nothing when output wants no
  // gradient: every parameter is frozen.
  void backward(const Value& output, Tensor seed);
  // For a scalar output (f64 [1]): seed = scale.
  void backward(const Value& output, double scale);

  // After backward: the gradient of a leaf; an undefined Tensor when nothing reached it.
  Tensor gradient(const Value& leaf) const;

  bool used_trainable() const { return used_trainable_; }
  int64_t clones() const { return clones_; }
  size_t nodes() const { return nodes_.size(); }
  // Told each trainable parameter used, once, when nothing will add to its gradient any more.
  std::function<void(Param&)> on_param_final;

 private:
  friend class Grads;

  struct Record {
    virtual ~Record() = default;
    virtual void backward(Grads& g) = 0;
    virtual const char* name() const = 0;
  };
  template <class O>
  struct Boxed final : Record {
    explicit Boxed(O o) : op(std::move(o)) {}
    void backward(Grads& g) override { op.backward(g); }
    const char* name() const override { return O::kName; }
    O op;
  };
  struct Node {
    std::unique_ptr<Record> record;
    std::vector<int32_t> inputs;
    int32_t output;
    int32_t layer;  // of the forward, for traces
  };
  struct Slot {
    Shape shape;
    DType dtype = DType::f32;
    Param* param = nullptr;
    Tensor gradient;
  };

  bool wants_record(std::initializer_list<Value> inputs, bool force) const;
  Value push(std::unique_ptr<Record> record, std::initializer_list<Value> inputs, Tensor out);
  int32_t new_slot(const Tensor& data);
  void note_use(Param& param);
  void pop_and_run();

  Mode mode_;
  Tape* parent_;
  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
  std::unordered_map<Param*, int32_t> param_slots_;
  std::vector<std::pair<size_t, Param*>> first_uses_;  // ascending node index
  std::unordered_map<Param*, bool> seen_;
  bool used_trainable_ = false;
  int64_t clones_ = 0;
};

}  // namespace ag
