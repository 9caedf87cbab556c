#include "autograd/checkpoint.h"

#include "core/trace.h"

namespace ag {
namespace {

struct Checkpoint {
  static constexpr const char* kName = "checkpoint";
  Tape* tape;  // of this record
  Tensor x;
  bool wants_x;
  std::function<Value(const Value&)> fn;

  void backward(Grads& g) const {
    Tape inner(Tape::Mode::kRecord, tape);
    const Value input = wants_x ? inner.leaf(x) : inner.constant(x);
    const Value output = [&] {
      const core::trace::ContextScope scope(
          {core::trace::Phase::recompute, core::trace::context().layer});
      return fn(input);
    }();
    // Why take: the block adds to this gradient, and would have to clone what is shared.
    inner.backward(output, g.take_out());
    if (!wants_x) return;
    const Tensor dx = inner.gradient(input);
    if (dx.defined()) g.pass(0, dx);  // undefined: `fn` does not depend on its input
  }
};

}  // namespace

Value checkpoint(const Value& x, std::function<Value(const Value&)> fn) {
  Tape first(Tape::Mode::kOff, x.tape);
  Tensor y = fn(first.constant(x.data)).data;
  return x.tape->record(Checkpoint{x.tape, x.data, x.wants_gradient(), std::move(fn)}, {x},
                        std::move(y), first.used_trainable());
}

}  // namespace ag
