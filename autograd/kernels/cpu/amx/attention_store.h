// Results of tiled attention on their way to memory: columns put back in order, rounded once.
#pragma once

#include "autograd/kernels/cpu/amx/attention_pack.h"
#include "autograd/kernels/cpu/amx/attention_softmax.h"

namespace ag::AG_ISA {

// 32 columns of a row in f32.
struct Columns {
  __m512 low, high;
};

// From the interleaved order of sums over rows.
AG_INLINE Columns in_order(Columns x) {
  const __m512i low = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
  const __m512i high = _mm512_or_si512(low, _mm512_set1_epi32(8));
  return {_mm512_permutex2var_ps(x.low, low, x.high), _mm512_permutex2var_ps(x.low, high, x.high)};
}

AG_INLINE Columns widen_columns(__m512i x) {
  return {widened(_mm512_castsi512_si256(x)), widened(_mm512_extracti64x4_epi64(x, 1))};
}

// y [the columns of `mask`] (+)= x.
AG_INLINE void store_columns(bf16* y, __mmask32 mask, Columns x, bool accumulate) {
  if (accumulate) {
    const Columns old = widen_columns(_mm512_maskz_loadu_epi16(mask, y));
    x = {_mm512_add_ps(old.low, x.low), _mm512_add_ps(old.high, x.high)};
  }
  _mm512_mask_storeu_epi16(y, mask, narrow_two(x.low, x.high));
}

// y [rows x width] (+)= factor * the transpose of `sums`, which are tiles (interleaved half of a
// block of columns, half of the rows). factor has 32 lanes, one per row.
inline void store_transposed(View y, int64_t row, int64_t column, int64_t width, int64_t rows,
                             const float* sums, const __m512 (&factor)[2]) {
  for (int64_t b = 0; b < chunks_of(width); ++b, sums += 4 * kSumValues) {
    const __mmask32 mask = lanes_below(width - b * kChunk);
    for (int64_t half = 0; half * kTileRows < rows; ++half) {
      __m512i low[16], high[16];
      const float* const from = sums + half * kSumValues;
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        low[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(from + i * 16), factor[half]));
        high[i] = _mm512_castps_si512(
            _mm512_mul_ps(_mm512_load_ps(from + 2 * kSumValues + i * 16), factor[half]));
      }
      transpose_words(low);
      transpose_words(high);
      bf16* to = y.row<bf16>(row + half * kTileRows) + column + b * kChunk;
      const int64_t count = smaller(kTileRows, rows - half * kTileRows);
      for (int64_t i = 0; i < count; ++i, to += y.ld) {
        const Columns x{_mm512_castsi512_ps(low[i]), _mm512_castsi512_ps(high[i])};
        store_columns(to, mask, in_order(x), y.accumulate);
      }
    }
  }
}

}  // namespace ag::AG_ISA
