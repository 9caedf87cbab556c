// Sums whose order does not depend on the number of threads, and the search for NaN and infinity.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {
namespace {

// Blocks of kTile elements are summed in order within at most kGroups groups, then the groups.
constexpr int64_t kGroups = 256;

template <class T>
[[gnu::always_inline]] inline double square_block(const T* x, int64_t n) {
  // Why four: one chain of additions would wait for itself, not for memory.
  const int64_t quarter = n / 4;
  const T *x1 = x + quarter, *x2 = x1 + quarter, *x3 = x2 + quarter;
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t i = 0; i < quarter; ++i) {
    s0 += widen<double>(x[i]) * widen<double>(x[i]);
    s1 += widen<double>(x1[i]) * widen<double>(x1[i]);
    s2 += widen<double>(x2[i]) * widen<double>(x2[i]);
    s3 += widen<double>(x3[i]) * widen<double>(x3[i]);
  }
  for (int64_t i = 4 * quarter; i < n; ++i) s0 += widen<double>(x[i]) * widen<double>(x[i]);
  return (s0 + s1) + (s2 + s3);
}

// An exponent of all ones means NaN or infinity.
[[gnu::always_inline]] inline int64_t nonfinite(float x) {
  return (__builtin_bit_cast(uint32_t, x) & 0x7F800000U) == 0x7F800000U;
}
[[gnu::always_inline]] inline int64_t nonfinite(bf16 x) { return (x.bits & 0x7F80) == 0x7F80; }
[[gnu::always_inline]] inline int64_t nonfinite(double x) {
  constexpr uint64_t kExponent = 0x7FF0000000000000U;
  return (__builtin_bit_cast(uint64_t, x) & kExponent) == kExponent;
}

// Rows without padding are one long row.
ConstView flattened(ConstView x) {
  if (x.ld != x.cols) return x;
  return {x.data, 1, x.rows * x.cols, x.rows * x.cols, x.dtype};
}

}  // namespace

void sum_rows(View y, ConstView x) {
  with_type(x.dtype, [=]<class T>() {
    using W = compute_t<T>;
    sum_over_rows<W>(y, x.rows, [=](int64_t n, int64_t j) { return widen<W>(x.row<T>(n)[j]); });
  });
}

double sum_squares(ConstView input) {
  const ConstView x = flattened(input);
  const int64_t blocks_per_row = (x.cols + kTile - 1) / kTile;
  const int64_t blocks = x.rows * blocks_per_row;
  const int64_t groups = blocks < kGroups ? blocks : kGroups;
  double partial[kGroups];
  double* sums = partial;
  with_type(x.dtype, [=]<class T>() {
    parallel_rows(groups, x.numel() / (groups > 0 ? groups : 1), [=](int64_t group) {
      double sum = 0;
      const int64_t last = (group + 1) * blocks / groups;
      for (int64_t block = group * blocks / groups; block < last; ++block) {
        const int64_t begin = block % blocks_per_row * kTile;
        const int64_t left = x.cols - begin;
        sum += square_block(x.row<T>(block / blocks_per_row) + begin, left < kTile ? left : kTile);
      }
      sums[group] = sum;
    });
  });
  double total = 0;
  for (int64_t group = 0; group < groups; ++group) total += partial[group];
  return total;
}

int64_t count_nonfinite(ConstView input) {
  const ConstView x = flattened(input);
  int64_t count = 0;
  with_type(x.dtype, [&]<class T>() {
    parallel_tiles(x.rows, x.cols, [x, &count](int64_t row, int64_t begin, int64_t end) {
      const T* values = x.row<T>(row);
      int64_t found = 0;
#pragma omp simd reduction(+ : found)
      for (int64_t j = begin; j < end; ++j) found += nonfinite(values[j]);
#pragma omp atomic
      count += found;
    });
  });
  return count;
}

}  // namespace ag::AG_ISA
