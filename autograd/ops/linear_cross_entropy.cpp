// loss = sum_n ( log sum_v exp(z[n, v]) - z[n, target_n] ),  z = h w^T, for a chunk of rows at a
// time. dz = scale (softmax(z) - onehot(target)),  dh = dz w,  dw = dz^T h, while z is there: to
// multiply once more in the backward costs a third of all this.
#include <charconv>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"
#include "autograd/ops/ids.h"
#include "core/trace.h"

namespace ag {
namespace {

// Elements between rows. Why more than a row: rows that are a multiple of 4 KiB apart share the
// same few sets of a cache, and products with them took up to half as long again.
int64_t padded(int64_t vocabulary) { return (vocabulary + 31) / 32 * 32 + 32; }

Tensor rows_of(const Tensor& t, int64_t begin, int64_t count) {
  return t.slice(begin * t.cols(), {count, t.cols()});
}

std::string shortest(double x) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof(digits), x).ptr};
}

struct LinearCrossEntropy {
  static constexpr const char* kName = "linear_cross_entropy";
  double scale;
  Tensor dh;           // [N, D] T; undefined when not wanted
  const Param* param;  // null when dw is not wanted: else it lies in `buffer`
  const void* buffer;

  void backward(Grads& g) const {
    const double seed = g.out().to_host<double>()[0];
    CHECK_ARGUMENT(kName, seed == scale, "a backward from gradient_scale = " + shortest(scale),
                   shortest(seed));
    CHECK_ARGUMENT(
        kName,
        param == nullptr || std::as_const(param->store->selected_gradient()).view().data == buffer,
        "the gradient buffer of the forward", "another");
    if (g.wants(0)) g.pass(0, dh);
  }
};

// One forward, chunk by chunk.
class ChunkedLoss {
 public:
  ChunkedLoss(const Tensor& h, const Tensor& w, const Tensor& targets, DType wide)
      : k_(kernels(h.device())),
        h_(h),
        w_(w),
        targets_(targets),
        wide_(wide),
        loss_(Tensor::empty({h.rows(), 1}, DType::f64)) {}

  // `dh` and `dw`: null data when not wanted.
  Tensor run(double scale, View dh, View dw) {
    const int64_t step = loss_chunk_rows(h_.cols());
    for (int64_t begin = 0; begin < h_.rows(); begin += step)
      run_chunk(begin, std::min(step, h_.rows() - begin), scale, dh, dw);
    return loss_;
  }

 private:
  void run_chunk(int64_t begin, int64_t count, double scale, const View& dh, const View& dw) {
    const Tensor h = rows_of(h_, begin, count);
    Tensor logits = Tensor::empty({count, padded(w_.rows())}, wide_);
    View z = logits.view();
    z.cols = w_.rows();
    k_.gemm(z, h, false, w_, true);
    const bool differentiate = dh.data != nullptr || dw.data != nullptr;
    // In place: rows keep their distance in bytes.
    const DType type = h.dtype();
    View dz{z.data, count, z.cols, z.ld * size_of(wide_) / size_of(type), type};
    if (!differentiate) dz.data = nullptr;
    k_.cross_entropy(rows_of(loss_, begin, count).view(), dz, z, targets_.slice(begin, {count}),
                     scale);
    const core::trace::ContextScope scope(
        {core::trace::Phase::backward, core::trace::context().layer});
    if (dh.data != nullptr) k_.gemm(dh.row_range(begin, count), dz, false, w_, false);
    if (dw.data != nullptr) k_.gemm(dw, dz, true, h, false);
  }

  const Kernels& k_;
  const Tensor &h_, &w_, &targets_;
  DType wide_;
  Tensor loss_;  // [N, 1]
};

}  // namespace

Value linear_cross_entropy(const Value& h, Param& weight, const Tensor& targets,
                           const LossOptions& options) {
  CHECK_ARGUMENT("linear_cross_entropy",
                 weight.shape.rank() == 2 && weight.shape[1] == h.data.cols(),
                 "a weight [V, " + std::to_string(h.data.cols()) + "]", to_string(weight.shape));
  CHECK_DTYPE("linear_cross_entropy", h.data, weight.working.dtype());
  CHECK_SHAPE("linear_cross_entropy", targets, (Shape{h.data.rows()}));
  check_ids("linear_cross_entropy", targets, weight.shape[0]);
  const Value w = h.tape->use(weight);
  LinearCrossEntropy op{options.gradient_scale, {}, nullptr, nullptr};
  View dh, dw;
  if (h.wants_gradient()) {
    op.dh = Tensor::like(h.data);
    dh = op.dh.view();
  }
  if (w.wants_gradient()) {
    op.param = &weight;
    op.buffer = std::as_const(weight.store->selected_gradient()).view().data;
    dw = weight.gradient().view(/*accumulate=*/true);
  }
  const Tensor loss = ChunkedLoss(h.data, w.data, targets, wide_of(weight.working.dtype()))
                          .run(options.gradient_scale, dh, dw);
  Tensor sum = Tensor::empty({1}, DType::f64);
  kernels(sum.device()).sum_rows(sum.view(), loss);
  if (options.row_loss != nullptr) *options.row_loss = loss;
  return h.tape->record(std::move(op), {h, w}, sum);
}

}  // namespace ag
