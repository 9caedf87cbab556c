// y[n, :] = x[n, :] * rstd[n] * w,  rstd[n] = 1 / sqrt(mean(x[n, :]^2) + eps)
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  Tensor x;     // [N, D] wide
  Tensor w;     // [D] wide
  Tensor rstd;  // [N, 1] wide

  void backward(Grads& g) const {
    const Kernels& k = kernels(x.device());
    Tensor blocks;
    if (g.wants(1))
      blocks = Tensor::empty({(x.rows() + kNormBlock - 1) / kNormBlock, x.cols()}, x.dtype());
    k.rms_norm_backward(g.in_or_null(0), g.wants(1) ? blocks.view() : View{}, g.out(), x, w, rstd);
    if (g.wants(1)) k.sum_rows(g.in(1), blocks);
  }
};

}  // namespace

Value rms_norm(const Value& x, Param& weight, double eps, DType out) {
  const int64_t n = x.data.rows(), d = x.data.cols();
  CHECK_SHAPE("rms_norm", weight.working, (Shape{d}));
  CHECK_DTYPE("rms_norm", x.data, weight.working.dtype());
  CHECK_DTYPE("rms_norm", x.data, wide_of(out));
  Value w = x.tape->use(weight);
  Tensor y = Tensor::empty({n, d}, out), rstd = Tensor::empty({n, 1}, x.data.dtype());
  kernels(y.device()).rms_norm_forward(y.view(), rstd.view(), x.data, w.data, eps);
  return x.tape->record(RmsNorm{x.data, w.data, rstd}, {x, w}, y);
}

}  // namespace ag
