// y[n, h, :] = x[n, h, :] * rstd[n, h] * w: RMSNorm of each head for itself, one gain for all heads
// (QK-norm). The kernels are those of rms_norm, whose input is wide; bf16 is widened around them.
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

Tensor widened(const Tensor& x, DType wide) {
  if (x.dtype() == wide) return x;
  Tensor y = Tensor::empty(x.shape(), wide, x.device());
  kernels(x.device()).cast(y.view(), x);
  return y;
}

// The rows of a gradient [N, H*D] as heads [N*H, D].
View by_heads(View gradient, int64_t head_dim) {
  gradient.rows = gradient.numel() / head_dim;
  gradient.cols = gradient.ld = head_dim;
  return gradient;
}

struct HeadRmsNorm {
  static constexpr const char* kName = "head_rms_norm";
  Tensor x;     // [N*H, D] T
  Tensor w;     // [D] wide
  Tensor rstd;  // [N*H, 1] wide

  void backward(Grads& g) const {
    const Kernels& k = kernels(x.device());
    const DType wide = w.dtype();
    Tensor blocks, dx;
    if (g.wants(1))
      blocks = Tensor::empty({(x.rows() + kNormBlock - 1) / kNormBlock, x.cols()}, wide);
    View to = g.wants(0) ? by_heads(g.in(0), x.cols()) : View{};
    const bool narrow = g.wants(0) && to.dtype != wide;
    if (narrow) dx = Tensor::empty(x.shape(), wide);
    k.rms_norm_backward(narrow ? dx.view() : to, g.wants(1) ? blocks.view() : View{},
                        g.out().reshaped(x.shape()), widened(x, wide), w, rstd);
    if (narrow) k.cast(to, dx);
    if (g.wants(1)) k.sum_rows(g.in(1), blocks);
  }
};

}  // namespace

Value head_rms_norm(const Value& x, Param& weight, double eps) {
  const int64_t d = weight.working.numel();
  CHECK_ARGUMENT("head_rms_norm", weight.shape.rank() == 1 && x.data.cols() % d == 0,
                 "whole heads of " + to_string(weight.shape), to_string(x.data.shape()));
  const DType wide = wide_of(x.data.dtype());
  CHECK_DTYPE("head_rms_norm", weight.working, wide);
  const Tensor heads = x.data.reshaped({x.data.numel() / d, d});
  Value w = x.tape->use(weight);
  Tensor y = Tensor::like(heads), rstd = Tensor::empty({heads.rows(), 1}, wide);
  kernels(y.device()).rms_norm_forward(y.view(), rstd.view(), widened(heads, wide), w.data, eps);
  return x.tape->record(HeadRmsNorm{heads, w.data, rstd}, {x, w}, y.reshaped(x.data.shape()));
}

}  // namespace ag
