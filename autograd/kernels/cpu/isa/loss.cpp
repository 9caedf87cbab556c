// Cross entropy of softmax rows: lse = m + log(sum exp(l - m)), m = max l; loss = lse - l[target].
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {
namespace {

// log(sum exp) of one row. Parts of kTile are summed in W, the parts in double, so that the error
// does not grow with the vocabulary.
template <class W>
[[gnu::always_inline]] inline double log_sum_exp(const W* logits, int64_t n) {
  W maximum = logits[0];
#pragma omp simd reduction(max : maximum)
  for (int64_t j = 0; j < n; ++j) maximum = logits[j] > maximum ? logits[j] : maximum;
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kTile) {
    const int64_t end = begin + kTile < n ? begin + kTile : n;
    W part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t j = begin; j < end; ++j) part += exponential(logits[j] - maximum);
    sum += static_cast<double>(part);
  }
  return static_cast<double>(maximum) + __builtin_log(sum);
}

}  // namespace

void softmax_loss(View loss, View lse, ConstView logits, ConstView targets) {
  const int32_t* target = targets.row<int32_t>(0);
  with_type(logits.dtype, [=]<class W>() {
    if constexpr (!std::is_same_v<W, bf16>) {
      parallel_rows(logits.rows, logits.cols, [=](int64_t n) {
        const W* row = logits.row<W>(n);
        const double value = log_sum_exp(row, logits.cols);
        const double difference = value - static_cast<double>(row[target[n]]);
        store<W>(lse.row<W>(n), 0, 1, lse.accumulate,
                 [=](int64_t) { return static_cast<W>(value); });
        store<double>(loss.row<double>(n), 0, 1, loss.accumulate,
                      [=](int64_t) { return difference; });
      });
    }
  });
}

void softmax_gradient(View dlogits, ConstView logits, ConstView lse, ConstView targets,
                      double scale) {
  with_type(dlogits.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_rows(logits.rows, logits.cols, [=](int64_t n) {
      const W* row = logits.row<W>(n);
      T* gradient = dlogits.row<T>(n);
      const W normaliser = *lse.row<W>(n);
      const W factor = static_cast<W>(scale);
      const int64_t target = targets.row<int32_t>(0)[n];
      const auto probability = [=](int64_t j) { return factor * exponential(row[j] - normaliser); };
      const auto at_target = [=](int64_t j) {
        return factor * (exponential(row[j] - normaliser) - 1);
      };
      store<W>(gradient, 0, target, dlogits.accumulate, probability);
      store<W>(gradient, target, target + 1, dlogits.accumulate, at_target);
      store<W>(gradient, target + 1, logits.cols, dlogits.accumulate, probability);
    });
  });
}

}  // namespace ag::AG_ISA
