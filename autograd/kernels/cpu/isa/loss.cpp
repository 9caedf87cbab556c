// Cross entropy of softmax rows, m = max l, s = sum exp(l - m):
//   loss = log s + m - l[target],  dl = scale * (exp(l - m) / s - onehot(target)).
// One pass for m and s, in parts that stay in the first level of cache, and one for the gradient,
// from the second level: a row of 49152 logits is 192 KiB.
#include "autograd/kernels/cpu/isa/loops.h"
#include "autograd/kernels/cpu/isa/wide.h"

namespace ag::AG_ISA {
namespace {

// A NaN may be passed over: the sum of exponentials finds it.
template <class W>
AG_INLINE W maximum_of(const W* x, int64_t n) {
  constexpr int64_t kStep = 4 * kLanes<W>;
  Vec<W> m[4];
  for (Vec<W>& v : m) v = broadcast(x[0]);
  int64_t j = 0;
  for (; j + kStep <= n; j += kStep) {
    for (int64_t i = 0; i < 4; ++i) m[i] = max(m[i], load_wide<W>(x + j + i * kLanes<W>));
  }
  for (; j + kLanes<W> <= n; j += kLanes<W>) m[0] = max(m[0], load_wide<W>(x + j));
  m[0] = max(max(m[0], m[1]), max(m[2], m[3]));
  W maximum = m[0][0];
  for (int64_t i = 1; i < kLanes<W>; ++i) maximum = m[0][i] > maximum ? m[0][i] : maximum;
  for (; j < n; ++j) maximum = x[j] > maximum ? x[j] : maximum;
  return maximum;
}

// The sum of exp(x - reference). Asks for as much again behind x: the processor does not look that
// far ahead over exponentials.
template <class W>
AG_INLINE W sum_of_exponentials(const W* x, int64_t n, W reference) {
  constexpr int kReadOnly = 0, kSecondLevel = 2;
  Vec<W> part[2] = {};
  int64_t j = 0;
  for (; j + 2 * kLanes<W> <= n; j += 2 * kLanes<W>) {
    __builtin_prefetch(x + j + n, kReadOnly, kSecondLevel);
    __builtin_prefetch(x + j + n + kLanes<W>, kReadOnly, kSecondLevel);
    part[0] += exp(load_wide<W>(x + j) - reference);
    part[1] += exp(load_wide<W>(x + j + kLanes<W>) - reference);
  }
  for (; j < n; j += kLanes<W>) {
    const int64_t left = n - j;
    const W nothing = -__builtin_huge_val();
    part[0] += exp((left < kLanes<W> ? load_first<W>(x + j, left, nothing) : load_wide<W>(x + j)) -
                   reference);
  }
  return sum_of<W>(part[0] + part[1]);
}

template <class W>
struct Softmax {
  W maximum;
  double sum;  // of exp(x - maximum); NaN when there is one in x, or no finite maximum
};

// Parts of kTile are summed in W, the parts in double, so that the error does not grow with the
// vocabulary.
template <class W>
AG_INLINE Softmax<W> softmax_of(const W* x, int64_t n) {
  constexpr W kNone = -__builtin_huge_val();
  Softmax<W> all{kNone, 0};
  for (int64_t begin = 0; begin < n; begin += kTile) {
    const int64_t count = begin + kTile < n ? kTile : n - begin;
    const W maximum = maximum_of(x + begin, count);
    if (maximum > all.maximum) {
      all.sum *= __builtin_exp(static_cast<double>(all.maximum) - static_cast<double>(maximum));
      all.maximum = maximum;
    }
    const W reference = all.maximum == kNone ? W{0} : all.maximum;
    all.sum += static_cast<double>(sum_of_exponentials(x + begin, count, reference));
  }
  return all;
}

// gradient [0, n) = factor * exp(x - maximum). Ascending, and a vector is read before it is
// written: gradient may begin where x does. Requires: no NaN in x.
template <class W, class T>
AG_INLINE void write_probabilities(T* gradient, const W* x, int64_t n, W maximum, W factor) {
  int64_t j = 0;
  for (; j + 2 * kLanes<W> <= n; j += 2 * kLanes<W>) {
    const Vec<W> a = load_wide<W>(x + j) - maximum, b = load_wide<W>(x + j + kLanes<W>) - maximum;
    store_neighbours<W, false>(gradient + j, factor * exp(a), factor * exp(b));
  }
  for (; j < n; j += kLanes<W>) {
    const int64_t count = n - j < kLanes<W> ? n - j : kLanes<W>;
    store_first<W>(gradient + j, factor * exp(load_first<W>(x + j, count, maximum) - maximum),
                   count);
  }
}

template <class T>
AG_INLINE void fill_nan(T* gradient, int64_t n) {
  for (int64_t j = 0; j < n; ++j) gradient[j] = narrow<T>(__builtin_nanf(""));
}

}  // namespace

void cross_entropy(View loss, View dlogits, ConstView logits, ConstView targets, double scale) {
  const int32_t* target_ids = targets.row<int32_t>(0);
  with_type(dlogits.data == nullptr ? logits.dtype : dlogits.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_rows(logits.rows, logits.cols, [=](int64_t n) {
      const W* row = logits.row<W>(n);
      const int64_t width = logits.cols, target = target_ids[n];
      const W at_target = row[target];
      const auto [maximum, sum] = softmax_of(row, width);
      *loss.row<double>(n) =
          __builtin_log(sum) + (static_cast<double>(maximum) - static_cast<double>(at_target));
      if (dlogits.data == nullptr) return;
      T* gradient = dlogits.row<T>(n);
      if (!(sum > 0)) return fill_nan(gradient, width);
      write_probabilities(gradient, row, width, maximum, static_cast<W>(scale / sum));
      const double probability = static_cast<double>(exp(broadcast(at_target - maximum))[0]) / sum;
      gradient[target] = narrow<T>(static_cast<W>(scale * (probability - 1)));
    });
  });
}

}  // namespace ag::AG_ISA
