// loss = sum_n ( log sum_v exp(z[n, v]) - z[n, target_n] ),  z = h w^T, for a chunk of rows at a
// time. dz = scale (softmax(z) - onehot(target)),  dh = dz w,  dw = dz^T h.
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"
#include "autograd/ops/ids.h"

namespace ag {
namespace {

// Why: a chunk's logits should stay in cache; 8 MiB of f32 at V = 8192, and still 50 MiB at 49k.
constexpr int64_t kChunkRows = 256;

Tensor rows_of(const Tensor& t, int64_t begin, int64_t count) {
  return t.slice(begin * t.cols(), {count, t.cols()});
}

struct LinearCrossEntropy {
  static constexpr const char* kName = "linear_cross_entropy";
  Tensor h;        // [N, D]
  Tensor w;        // [V, D]
  Tensor targets;  // [N] i32
  Tensor lse;      // [N, 1] wide

  void backward(Grads& g) const {
    const Kernels& k = kernels(h.device());
    const double scale = g.out().to_host<double>()[0];
    const View dh = g.in_or_null(0);
    for (int64_t begin = 0; begin < h.rows(); begin += kChunkRows) {
      const int64_t count = std::min(kChunkRows, h.rows() - begin);
      const Tensor h_chunk = rows_of(h, begin, count);
      Tensor logits = Tensor::empty({count, w.rows()}, lse.dtype());
      k.gemm(logits.view(), h_chunk, false, w, true);
      Tensor dlogits = Tensor::empty({count, w.rows()}, h.dtype());
      k.softmax_gradient(dlogits.view(), logits, rows_of(lse, begin, count),
                         targets.slice(begin, {count}), scale);
      if (g.wants(0)) k.gemm(dh.row_range(begin, count), dlogits, false, w, false);
      if (g.wants(1)) k.gemm(g.in(1), dlogits, true, h_chunk, false);
    }
  }
};

}  // namespace

Value linear_cross_entropy(const Value& h, Param& weight, const Tensor& targets, Tensor* row_loss) {
  const int64_t n = h.data.rows();
  CHECK_ARGUMENT("linear_cross_entropy",
                 weight.shape.rank() == 2 && weight.shape[1] == h.data.cols(),
                 "a weight [V, " + std::to_string(h.data.cols()) + "]", to_string(weight.shape));
  CHECK_DTYPE("linear_cross_entropy", h.data, weight.working.dtype());
  CHECK_SHAPE("linear_cross_entropy", targets, (Shape{n}));
  check_ids("linear_cross_entropy", targets, weight.shape[0]);
  const Value w = h.tape->use(weight);
  const Kernels& k = kernels(w.data.device());
  Tensor lse = Tensor::empty({n, 1}, weight.master.dtype());
  Tensor loss = Tensor::empty({n, 1}, DType::f64);
  for (int64_t begin = 0; begin < n; begin += kChunkRows) {
    const int64_t count = std::min(kChunkRows, n - begin);
    Tensor logits = Tensor::empty({count, weight.shape[0]}, weight.master.dtype());
    k.gemm(logits.view(), rows_of(h.data, begin, count), false, w.data, true);
    k.softmax_loss(rows_of(loss, begin, count).view(), rows_of(lse, begin, count).view(), logits,
                   targets.slice(begin, {count}));
  }
  Tensor sum = Tensor::empty({1}, DType::f64);
  k.sum_rows(sum.view(), loss);
  if (row_loss != nullptr) *row_loss = loss;
  return h.tape->record(LinearCrossEntropy{h.data, w.data, targets, lse}, {h, w}, sum);
}

}  // namespace ag
