#include "autograd/tape.h"

#include "autograd/kernels/kernels.h"
#include "core/env.h"
#include "core/trace.h"

namespace ag {
namespace {

Tensor clone(const Tensor& t) {
  Tensor copy = Tensor::like(t);
  kernels(t.device()).cast(copy.view(), t);
  return copy;
}

// MHA2MLA_CHECK_FINITE=1 names the op that makes the first NaN, not the step that sees it.
void check_finite(const char* op, const char* what, const Tensor& t) {
  if (t.dtype() == DType::i32) return;
  const int64_t bad = kernels(t.device()).count_nonfinite(t);
  if (bad == 0) return;
  core::fail(core::ExitCode::kNumerical, {.field = op,
                                          .expected = std::string("finite values in ") + what,
                                          .found = std::to_string(bad) + " that are not"});
}

}  // namespace

View Grads::in(int i) {
  Tape::Slot& slot = tape_.slots_[static_cast<size_t>(inputs_[static_cast<size_t>(i)])];
  if (slot.param != nullptr) return slot.param->gradient().view(/*accumulate=*/true);
  const bool accumulate = slot.gradient.defined();
  if (!accumulate) {
    slot.gradient = Tensor::empty(slot.shape, slot.dtype);
  } else if (!slot.gradient.unique()) {
    slot.gradient = clone(slot.gradient);
    for (Tape* tape = &tape_; tape != nullptr; tape = tape->parent_) ++tape->clones_;
  }
  return slot.gradient.view(accumulate);
}

void Grads::pass(int i, const Tensor& gradient) {
  Tape::Slot& slot = tape_.slots_[static_cast<size_t>(inputs_[static_cast<size_t>(i)])];
  if (slot.param == nullptr && !slot.gradient.defined()) {
    slot.gradient = gradient;
    return;
  }
  kernels(gradient.device()).cast(in(i), gradient);
}

void Tape::note_use(Param& param) {
  used_trainable_ = used_trainable_ || param.trainable;
  if (parent_ != nullptr) parent_->note_use(param);
  if (param.trainable && seen_.emplace(&param, true).second)
    first_uses_.emplace_back(nodes_.size(), &param);
}

Value Tape::use(Param& param) {
  note_use(param);
  if (!recording() || !param.trainable) return constant(param.working);
  const auto [it, fresh] = param_slots_.emplace(&param, static_cast<int32_t>(slots_.size()));
  if (fresh) slots_.push_back({param.shape, param.working.dtype(), &param, {}});
  return {param.working, this, it->second};
}

int32_t Tape::new_slot(const Tensor& data) {
  slots_.push_back({data.shape(), data.dtype(), nullptr, {}});
  return static_cast<int32_t>(slots_.size()) - 1;
}

Value Tape::leaf(Tensor data) {
  const int32_t slot = recording() ? new_slot(data) : -1;
  return {std::move(data), this, slot};
}

bool Tape::wants_record(std::initializer_list<Value> inputs, bool force) const {
  if (!recording()) return false;
  bool wanted = force;
  for (const Value& v : inputs) wanted = wanted || v.wants_gradient();
  return wanted;
}

Value Tape::push(std::unique_ptr<Record> record, std::initializer_list<Value> inputs, Tensor out) {
  if (core::env().check_finite) check_finite(record->name(), "its output", out);
  Node node{std::move(record), {}, new_slot(out), core::trace::context().layer};
  for (const Value& v : inputs) {
    CHECK_ARGUMENT(node.record->name(), v.tape == nullptr || v.tape == this, "inputs of one tape",
                   "two tapes");
    node.inputs.push_back(v.slot);
  }
  const int32_t slot = node.output;
  nodes_.push_back(std::move(node));
  return {std::move(out), this, slot};
}

void Tape::pop_and_run() {
  Node node = std::move(nodes_.back());
  nodes_.pop_back();
  Tensor out = std::move(slots_[static_cast<size_t>(node.output)].gradient);
  // An output that nothing used has no gradient, and so nothing to hand on.
  if (out.defined()) {
    if (core::env().check_finite)
      check_finite(node.record->name(), "the gradient of its output", out);
    const core::trace::ContextScope scope({core::trace::Phase::backward, node.layer});
    Grads grads(*this, out, node.inputs);
    node.record->backward(grads);
  }
  while (!first_uses_.empty() && first_uses_.back().first >= nodes_.size()) {
    if (on_param_final) on_param_final(*first_uses_.back().second);
    first_uses_.pop_back();
  }
}

void Tape::backward(const Value& output, Tensor seed) {
  if (!output.wants_gradient()) return;
  CHECK_ARGUMENT("backward",
                 output.tape == this && !nodes_.empty() && nodes_.back().output == output.slot,
                 "the last value of this tape", "another");
  CHECK_SHAPE("backward", seed, output.data.shape());
  CHECK_DTYPE("backward", seed, output.data.dtype());
  slots_[static_cast<size_t>(output.slot)].gradient = std::move(seed);
  while (!nodes_.empty()) pop_and_run();
}

void Tape::backward(const Value& output, double scale) {
  backward(output, Tensor::from_host<double>({1}, std::span(&scale, 1)));
}

Tensor Tape::gradient(const Value& leaf) const {
  CHECK_ARGUMENT("gradient", leaf.tape == this && leaf.wants_gradient(), "a leaf of this tape",
                 "another value");
  return slots_[static_cast<size_t>(leaf.slot)].gradient;
}

}  // namespace ag
