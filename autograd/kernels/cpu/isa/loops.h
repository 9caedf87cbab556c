// What the pointwise kernels share: types and parallel loops.
//
// Everything here has internal linkage (see isa.h). Loop bodies get their pointers as locals, and
// `omp simd` promises that no output overlaps an input except at the very same element.
#pragma once

#include <type_traits>

#include "autograd/kernels/cpu/isa/isa.h"

namespace ag::AG_ISA {
namespace {

// Below this many element operations a parallel region costs more than it saves.
constexpr int64_t kSerialWork = 1 << 14;
constexpr int64_t kTile = 4096;

// The type in which A and B are combined.
template <class A, class B>
using common_wide =
    std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

template <class W, class T>
[[gnu::always_inline]] inline W widen(T x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return static_cast<W>(static_cast<float>(x));
  } else {
    return static_cast<W>(x);
  }
}

template <class T, class W>
[[gnu::always_inline]] inline T narrow(W x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return bf16(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

// Calls f.operator()<T>(). Like ag::dispatch_float, but without its out-of-line throw. Requires: a
// floating dtype.
template <class F>
[[gnu::always_inline]] inline void with_type(DType dtype, F f) {
  if (dtype == DType::f32) {
    f.template operator()<float>();
  } else if (dtype == DType::bf16) {
    f.template operator()<bf16>();
  } else {
    f.template operator()<double>();
  }
}

// y[i] (+)= value(i) for begin <= i < end, added in W.
template <class W, class T, class F>
[[gnu::always_inline]] inline void store(T* y, int64_t begin, int64_t end, bool accumulate,
                                         F value) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = narrow<T>(widen<W>(y[i]) + value(i));
  } else {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = narrow<T>(value(i));
  }
}

// f(row) for every row.
template <class F>
[[gnu::always_inline]] inline void parallel_rows(int64_t rows, int64_t cols, F f) {
#pragma omp parallel for schedule(static) if (rows > 1 && rows * cols > kSerialWork)
  for (int64_t row = 0; row < rows; ++row) f(row);
}

// f(row, begin, end) for pieces of at most kTile columns: long rows are shared among threads too.
template <class F>
[[gnu::always_inline]] inline void parallel_tiles(int64_t rows, int64_t cols, F f) {
  const int64_t tiles = (cols + kTile - 1) / kTile;
#pragma omp parallel for schedule(static) if (rows * cols > kSerialWork)
  for (int64_t tile = 0; tile < rows * tiles; ++tile) {
    const int64_t begin = tile % tiles * kTile;
    f(tile / tiles, begin, begin + kTile < cols ? begin + kTile : cols);
  }
}

// f(begin, end) for column ranges of at most kColumns columns, one owner each: what is summed over
// rows inside f has the same order whatever the number of threads.
constexpr int64_t kColumns = 256;

template <class F>
[[gnu::always_inline]] inline void parallel_columns(int64_t rows, int64_t cols, F f) {
  const int64_t share = (cols + omp_get_max_threads() - 1) / omp_get_max_threads();
  const int64_t rounded = (share + 15) / 16 * 16;
  const int64_t width = rounded < kColumns ? rounded : kColumns;
  if (cols == 0) return;
#pragma omp parallel for schedule(static) if (cols > width && rows * cols > kSerialWork)
  for (int64_t begin = 0; begin < cols; begin += width) {
    f(begin, begin + width < cols ? begin + width : cols);
  }
}

// y[j] (+)= sum over rows of term(row, j) for the columns [begin, end), in W: rows of a block of
// kRowBlock in order, then the blocks in order.
constexpr int64_t kRowBlock = 64;

template <class W, class F>
[[gnu::always_inline]] inline void sum_over_rows(View y, int64_t rows, F term) {
  parallel_columns(rows, y.cols, [=](int64_t begin, int64_t end) {
    W total[kColumns], partial[kColumns];
    const int64_t width = end - begin;
    for (int64_t j = 0; j < width; ++j) total[j] = 0;
    for (int64_t block = 0; block < rows; block += kRowBlock) {
      const int64_t last = block + kRowBlock < rows ? block + kRowBlock : rows;
      for (int64_t j = 0; j < width; ++j) partial[j] = 0;
      for (int64_t row = block; row < last; ++row) {
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) partial[j] += term(row, begin + j);
      }
      for (int64_t j = 0; j < width; ++j) total[j] += partial[j];
    }
    store<W>(y.row<W>(0) + begin, 0, width, y.accumulate, [&](int64_t j) { return total[j]; });
  });
}

}  // namespace
}  // namespace ag::AG_ISA
