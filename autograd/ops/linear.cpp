// y = x w^T + b (+ residual).  dx = dy w,  dw = dy^T x,  db = sum of the rows of dy,  dresidual =
// dy
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

template <bool kResidual>
struct Linear {
  static constexpr const char* kName = kResidual ? "linear_residual" : "linear";
  Tensor x;  // [N, D]; undefined when dw is not wanted
  Tensor w;  // [F, D]
  bool has_bias;

  // Inputs: x, w, then bias and residual where they are.
  void backward(Grads& g) const {
    const Kernels& k = kernels(w.device());
    Tensor dy = g.out();
    if (kResidual && g.wants(2 + has_bias)) g.pass(2 + has_bias, dy);
    if (dy.dtype() != w.dtype() && (g.wants(0) || g.wants(1))) {
      // The residual stream is wide; the products want the type of x and w.
      dy = Tensor::empty(dy.shape(), w.dtype());
      k.cast(dy.view(), g.out());
    }
    if (g.wants(0)) k.gemm(g.in(0), dy, false, w, false);
    if (g.wants(1)) k.gemm(g.in(1), dy, true, x, false);
    if (has_bias && g.wants(2)) k.sum_rows(g.in(2), g.out());
  }
};

void check_linear(const char* op, const Value& x, Param& weight, const Param* bias) {
  CHECK_ARGUMENT(op, weight.shape.rank() == 2 && weight.shape[1] == x.data.cols(),
                 weight.name + " [F, " + std::to_string(x.data.cols()) + "]",
                 to_string(weight.shape));
  CHECK_DTYPE(op, x.data, weight.working.dtype());
  if (bias != nullptr) CHECK_SHAPE(op, bias->working, (Shape{weight.shape[0]}));
}

}  // namespace

Value linear(const Value& x, Param& weight, Param* bias) {
  check_linear("linear", x, weight, bias);
  Tape& tape = *x.tape;
  const Value w = tape.use(weight);
  Tensor y = Tensor::empty({x.data.rows(), weight.shape[0]}, x.data.dtype());
  const Kernels& k = kernels(y.device());
  k.gemm(y.view(), x.data, false, w.data, true);
  Linear<false> op{weight.trainable ? x.data : Tensor(), w.data, bias != nullptr};
  if (bias == nullptr) return tape.record(std::move(op), {x, w}, y);
  const Value b = tape.use(*bias);
  k.add_bias(y.view(), b.data.reshaped({1, b.data.numel()}));
  return tape.record(std::move(op), {x, w, b}, y);
}

Value linear_residual(const Value& x, Param& weight, Param* bias, const Value& residual) {
  check_linear("linear_residual", x, weight, bias);
  CHECK_SHAPE("linear_residual", residual.data, (Shape{x.data.rows(), weight.shape[0]}));
  CHECK_DTYPE("linear_residual", residual.data, wide_of(weight.working.dtype()));
  Tape& tape = *x.tape;
  const Value w = tape.use(weight);
  Tensor y = Tensor::like(residual.data);
  const Kernels& k = kernels(y.device());
  k.cast(y.view(), residual.data);
  k.gemm(y.view(/*accumulate=*/true), x.data, false, w.data, true);
  Linear<true> op{weight.trainable ? x.data : Tensor(), w.data, bias != nullptr};
  if (bias == nullptr) return tape.record(std::move(op), {x, w, residual}, y);
  const Value b = tape.use(*bias);
  k.add_bias(y.view(), b.data.reshaped({1, b.data.numel()}));
  return tape.record(std::move(op), {x, w, b, residual}, y);
}

Tensor wide_logits(const Tensor& h, const Param& weight) {
  CHECK_DTYPE("wide_logits", h, weight.working.dtype());
  Tensor logits = Tensor::empty({h.rows(), weight.shape[0]}, wide_of(weight.working.dtype()));
  kernels(h.device()).gemm(logits.view(), h, false, weight.working, true);
  return logits;
}

}  // namespace ag
