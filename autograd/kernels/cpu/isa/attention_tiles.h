// The parts of tiled attention: scratch, packing of rows into wide tiles, small matrix products,
// storing. A tile is a row-major matrix of wide values C whose row stride is a multiple of the
// vector width; its padding is zero.
#pragma once

#include <new>

#include "autograd/kernels/cpu/isa/arithmetic.h"
#include "autograd/kernels/cpu/isa/isa.h"
#include "autograd/kernels/cpu/isa/simd.h"

namespace ag::AG_ISA {

// Queries are the lanes (columns) of the transposed score tiles, keys the rows: maxima, sums, masks
// and rescaling need no reduction across lanes.
inline constexpr int64_t kQueryTile = 64;
inline constexpr int64_t kKeyTile = 64;

inline constexpr int64_t kCacheLine = 64;

// Row stride of a tile with n columns.
template <class C>
AG_INLINE int64_t padded(int64_t n) {
  return round_up(n, kLanes<C>);
}

// Few kv heads would leave threads idle: their queries, in `pieces` of equal size, are dealt out to
// fixed sets. How many follows from the sizes alone, so the sums of the sets, added in their order,
// do not depend on the number of threads. Pieces go forth and back over the sets, which evens out
// that later queries see more keys.
struct QuerySets {
  int64_t count = 1;

  QuerySets(int64_t units, int64_t pieces) {
    // Six tasks or more, and an even number of them while one is a large part of all.
    const auto uneven = [&](int64_t tasks) { return tasks < 6 || (tasks < 16 && tasks % 2 != 0); };
    while (uneven(units * count) && count < 8 && pieces >= 4 * count) count *= 2;
  }
  bool has(int64_t set, int64_t piece) const {
    const int64_t r = piece % (2 * count);
    return set == (r < count ? r : 2 * count - 1 - r);
  }
};

// One aligned block for all threads of a call, allocated outside the parallel region so that
// std::bad_alloc reaches the caller.
template <class C>
class Scratch {
 public:
  explicit Scratch(int64_t elements)
      : data_(static_cast<C*>(::operator new(static_cast<size_t>(elements) * sizeof(C), kAlign))) {}
  ~Scratch() { ::operator delete(data_, kAlign); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  C* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlign{kCacheLine};
  C* data_;
};

// Hands out aligned pieces of a thread's scratch; with a null base it only counts them.
template <class C>
class Carver {
 public:
  explicit Carver(C* base) : base_(base) {}
  C* take(int64_t elements) {
    const int64_t start = used_;
    used_ += round_up(elements, kCacheLine / static_cast<int64_t>(sizeof(C)));
    return base_ == nullptr ? nullptr : base_ + start;
  }
  int64_t used() const { return used_; }

 private:
  C* base_;
  int64_t used_ = 0;
};

// The key of one kv head: its rotary part, then its NoPE part.
struct KeyParts {
  int64_t rope_begin, rope_width, nope_begin, nope_width;
};

inline KeyParts key_parts(const AttentionShape& shape, int64_t g) {
  const int64_t width = shape.rope_width.data()[g];
  const int64_t nope_width = shape.head_dim - width;
  return {width > 0 ? shape.rope_begin.data()[g] : 0, width,
          nope_width > 0 ? shape.nope_begin.data()[g] : 0, nope_width};
}

// y [0, n) = x, widened.
template <class C, class T>
AG_INLINE void widen(C* __restrict__ y, const T* __restrict__ x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<C>(x[i]);
}

// y [0, n) (+)= factor * x, rounded once.
template <class T, class C>
AG_INLINE void store_row(T* __restrict__ y, const C* __restrict__ x, int64_t n, C factor,
                         bool accumulate) {
  if (accumulate) {
    for (int64_t i = 0; i < n; ++i) y[i] = T(static_cast<C>(y[i]) + factor * x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = T(factor * x[i]);
  }
}

template <class C>
AG_INLINE void fill(C* y, int64_t n, C value) {
  for (int64_t i = 0; i < n; ++i) y[i] = value;
}

// tile [count, padded(width)] = factor * x [first_row : + count, column : + width].
template <class T, class C>
void pack_rows(C* tile, ConstView x, int64_t first_row, int64_t count, int64_t column,
               int64_t width, C factor) {
  const int64_t stride = padded<C>(width);
  for (int64_t i = 0; i < count; ++i) {
    C* row = tile + i * stride;
    widen(row, x.row<T>(first_row + i) + column, width);
    for (int64_t d = 0; d < width; ++d) row[d] *= factor;
    fill(row + width, stride - width, C(0));
  }
}

// tile [count, padded(head_dim)] = rotary and NoPE part of each key, joined.
template <class T, class C>
void pack_keys(C* tile, ConstView k_rope, ConstView k_nope, int64_t first_row, int64_t count,
               const KeyParts& parts) {
  const int64_t width = parts.rope_width + parts.nope_width;
  const int64_t stride = padded<C>(width);
  for (int64_t i = 0; i < count; ++i) {
    C* row = tile + i * stride;
    if (parts.rope_width > 0) {
      widen(row, k_rope.row<T>(first_row + i) + parts.rope_begin, parts.rope_width);
    }
    if (parts.nope_width > 0) {
      widen(row + parts.rope_width, k_nope.row<T>(first_row + i) + parts.nope_begin,
            parts.nope_width);
    }
    fill(row + width, stride - width, C(0));
  }
}

// y [cols, y_stride] = transpose of x [rows, x_stride]. Requires: rows and cols are multiples of
// the vector width.
template <class C>
void transpose(C* y, int64_t y_stride, const C* x, int64_t x_stride, int64_t rows, int64_t cols) {
  constexpr int64_t kWidth = kLanes<C>;
  for (int64_t i = 0; i < rows; i += kWidth) {
    for (int64_t j = 0; j < cols; j += kWidth) {
      Vec<C> block[kWidth];
#pragma GCC unroll 16
      for (int64_t r = 0; r < kWidth; ++r) block[r] = load(x + (i + r) * x_stride + j);
      transpose_in_registers<C>(block);
#pragma GCC unroll 16
      for (int64_t r = 0; r < kWidth; ++r) store(y + (j + r) * y_stride + i, block[r]);
    }
  }
}

// A matrix read element by element: (i, k) is at data[i * row_step + k * k_step].
template <class C>
struct Broadcast {
  const C* data;
  int64_t row_step, k_step;
};

// c [M, N vectors] (+)= a [M, depth] b [depth, N vectors], all accumulators in registers.
template <int M, int N, class C>
AG_INLINE void multiply_block(C* c, int64_t c_stride, Broadcast<C> a, const C* b, int64_t b_stride,
                              int64_t depth, bool accumulate) {
  Vec<C> sum[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      sum[i][j] = accumulate ? load(c + i * c_stride + j * kLanes<C>) : Vec<C>{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec<C> line[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) line[j] = load(b + k * b_stride + j * kLanes<C>);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const Vec<C> factor = broadcast(a.data[i * a.row_step + k * a.k_step]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i][j] += factor * line[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) store(c + i * c_stride + j * kLanes<C>, sum[i][j]);
  }
}

// The last rows (fewer than a full block): picks the block with exactly that many.
template <int M, int N, class C>
AG_INLINE void multiply_tail(int64_t rows, C* c, int64_t c_stride, Broadcast<C> a, const C* b,
                             int64_t b_stride, int64_t depth, bool accumulate) {
  if constexpr (M > 0) {
    if (rows == M) {
      multiply_block<M, N>(c, c_stride, a, b, b_stride, depth, accumulate);
    } else {
      multiply_tail<M - 1, N>(rows, c, c_stride, a, b, b_stride, depth, accumulate);
    }
  }
}

template <int N, class C>
[[gnu::noinline]] void multiply_panel(C* c, int64_t c_stride, Broadcast<C> a, const C* b,
                                      int64_t b_stride, int64_t rows, int64_t depth,
                                      bool accumulate) {
  constexpr int kRows = 6;
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    multiply_block<kRows, N>(c + i * c_stride, c_stride, a, b, b_stride, depth, accumulate);
    a.data += kRows * a.row_step;
  }
  multiply_tail<kRows - 1, N>(rows - i, c + i * c_stride, c_stride, a, b, b_stride, depth,
                              accumulate);
}

// c [rows, cols] (+)= a [rows, depth] b [depth, cols]. Requires: cols is a multiple of the vector
// width. The order of each sum depends on nothing but depth.
template <class C>
void multiply(C* c, int64_t c_stride, Broadcast<C> a, const C* b, int64_t b_stride, int64_t rows,
              int64_t cols, int64_t depth, bool accumulate) {
  constexpr int kPanel = kVectorRegisters == 32 ? 4 : 2;  // vectors: 6 x kPanel sums in registers
  constexpr int64_t kWidth = kLanes<C>;
  int64_t j = 0;
  for (; j + kPanel * kWidth <= cols; j += kPanel * kWidth) {
    multiply_panel<kPanel>(c + j, c_stride, a, b + j, b_stride, rows, depth, accumulate);
  }
  if (kPanel == 4 && j + 2 * kWidth <= cols) {
    multiply_panel<2>(c + j, c_stride, a, b + j, b_stride, rows, depth, accumulate);
    j += 2 * kWidth;
  }
  if (j < cols) multiply_panel<1>(c + j, c_stride, a, b + j, b_stride, rows, depth, accumulate);
}

}  // namespace ag::AG_ISA
