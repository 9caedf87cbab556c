// A block of 32 x 32 results of a product: two by two tiles in registers, sums in float.
#pragma once

#include "autograd/core/view.h"
#include "autograd/kernels/cpu/amx/intrinsics.h"
#include "autograd/kernels/cpu/amx/tile.h"

namespace ag::AG_ISA {

inline constexpr int64_t kBlock = 32;  // rows and columns of a block of results

// 32 rows of the left operand as tiles, `steps` along the sum: packed, or rows as they lie.
struct LeftTiles {
  const std::byte* data;
  int64_t row_bytes, step_bytes, second_bytes;  // to the next row, step, and 16 rows
};

// Where the sums of a block live between its parts.
struct Sums {
  float* data;
  int64_t ld;
};

// Into the first cache. An address behind the end of the data does no harm.
template <int kLines>
AG_INLINE void prefetch_lines(const std::byte* first) {
#pragma GCC unroll 8
  for (int i = 0; i < kLines; ++i) _mm_prefetch(first + i * 64, _MM_HINT_T0);
}

AG_INLINE void prefetch_to_write(const std::byte* p) { asm volatile("prefetchw %0" : : "m"(*p)); }

// sums (+)= left * right over `steps` tiles; right is packed. 2 x 2 tiles, or fewer at the edges.
// Why prefetches between the products: the tiles of the right come from the second cache. Measured
// on a virtual machine, this order is a third faster while the host is busy and 5 % slower while it
// is idle.
template <int kRowTiles, int kColTiles>
AG_INLINE void multiply_block(const Sums& sums, bool add, const LeftTiles& left,
                              const std::byte* right, int64_t steps) {
  constexpr bool kTwoRows = kRowTiles == 2, kTwoCols = kColTiles == 2;
  const int64_t ld_bytes = sums.ld * 4;
  float* const lower = sums.data + 16 * sums.ld;
  if (add) {
    tile_load<0>(sums.data, ld_bytes);
    if constexpr (kTwoCols) tile_load<1>(sums.data + 16, ld_bytes);
    if constexpr (kTwoRows) tile_load<2>(lower, ld_bytes);
    if constexpr (kTwoRows && kTwoCols) tile_load<3>(lower + 16, ld_bytes);
  } else {
    tile_zero<0>();
    if constexpr (kTwoCols) tile_zero<1>();
    if constexpr (kTwoRows) tile_zero<2>();
    if constexpr (kTwoRows && kTwoCols) tile_zero<3>();
  }
  const std::byte* a = left.data;
  for (int64_t step = 0; step < steps; ++step) {
    tile_load<6>(right, kTileBytes);
    if constexpr (kTwoCols) tile_load<7>(right + 1024, kTileBytes);
    tile_load<4>(a, left.row_bytes);
    if constexpr (kTwoRows) tile_load<5>(a + left.second_bytes, left.row_bytes);
    const std::byte* ahead = right + 2 * 2048;
    tile_multiply<0, 4, 6>();
    prefetch_lines<8>(ahead);
    if constexpr (kTwoCols) tile_multiply<1, 4, 7>();
    prefetch_lines<8>(ahead + 512);
    if constexpr (kTwoRows) tile_multiply<2, 5, 6>();
    if constexpr (kTwoCols) prefetch_lines<8>(ahead + 1024);
    if constexpr (kTwoRows && kTwoCols) tile_multiply<3, 5, 7>();
    if constexpr (kTwoCols) prefetch_lines<8>(ahead + 1536);
    a += left.step_bytes;
    right += 2048;
  }
  tile_store<0>(sums.data, ld_bytes);
  if constexpr (kTwoCols) tile_store<1>(sums.data + 16, ld_bytes);
  if constexpr (kTwoRows) tile_store<2>(lower, ld_bytes);
  if constexpr (kTwoRows && kTwoCols) tile_store<3>(lower + 16, ld_bytes);
}

AG_INLINE void multiply_block(const Sums& sums, bool add, const LeftTiles& left,
                              const std::byte* right, int64_t steps, int64_t rows, int64_t cols) {
  if (rows > 16) {
    if (cols > 16) return multiply_block<2, 2>(sums, add, left, right, steps);
    return multiply_block<2, 1>(sums, add, left, right, steps);
  }
  if (cols > 16) return multiply_block<1, 2>(sums, add, left, right, steps);
  return multiply_block<1, 1>(sums, add, left, right, steps);
}

// Of a vector of 16.
AG_INLINE __mmask16 floats_below(int64_t n) { return static_cast<__mmask16>(lanes_below(n)); }

// c = sums (+ c) in bf16, rounded to nearest even; rows and cols <= 32.
AG_INLINE void finish_bf16(bf16* c, int64_t ldc, bool accumulate, const Sums& sums, int64_t rows,
                           int64_t cols) {
  const __mmask32 mask = lanes_below(cols);
  for (int64_t i = 0; i < rows; ++i) {
    bf16* to = c + i * ldc;
    __m512 low = _mm512_load_ps(sums.data + i * sums.ld);
    __m512 high = _mm512_load_ps(sums.data + i * sums.ld + 16);
    if (accumulate) {
      low += widened(_mm256_maskz_loadu_epi16(floats_below(cols), to));
      high += widened(_mm256_maskz_loadu_epi16(floats_below(cols - 16), to + 16));
    }
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    _mm512_mask_storeu_epi16(to, mask, both);
  }
}

// Between a block at the edge of c in float and its sums, which are whole tiles.
AG_INLINE void load_edge(const Sums& sums, const float* c, int64_t ldc, int64_t rows,
                         int64_t cols) {
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; j += 16) {
      const __mmask16 mask = i < rows ? floats_below(cols - j) : __mmask16{0};
      _mm512_store_ps(sums.data + i * sums.ld + j, _mm512_maskz_loadu_ps(mask, c + i * ldc + j));
    }
  }
}
AG_INLINE void store_edge(float* c, int64_t ldc, const Sums& sums, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < kBlock; j += 16) {
      _mm512_mask_storeu_ps(c + i * ldc + j, floats_below(cols - j),
                            _mm512_load_ps(sums.data + i * sums.ld + j));
    }
  }
}

}  // namespace ag::AG_ISA
