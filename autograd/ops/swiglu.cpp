// y = silu(gate) * up,  silu(a) = a / (1 + exp(-a))
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

struct Swiglu {
  static constexpr const char* kName = "swiglu";
  Tensor gate, up;  // [N, F]

  void backward(Grads& g) const {
    kernels(gate.device()).swiglu_backward(g.in_or_null(0), g.in_or_null(1), g.out(), gate, up);
  }
};

}  // namespace

Value swiglu(const Value& gate, const Value& up) {
  CHECK_SHAPE("swiglu", up.data, gate.data.shape());
  CHECK_DTYPE("swiglu", up.data, gate.data.dtype());
  CHECK_ARGUMENT("swiglu", gate.slot != up.slot || gate.slot < 0, "two values", "one value twice");
  Tensor y = Tensor::like(gate.data);
  kernels(y.device()).swiglu_forward(y.view(), gate.data, up.data);
  return gate.tape->record(Swiglu{gate.data, up.data}, {gate, up}, y);
}

}  // namespace ag
