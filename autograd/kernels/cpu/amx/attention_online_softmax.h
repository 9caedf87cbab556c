// Online softmax of attention forward: scores of 16 queries become probabilities while the largest
// score so far moves the reference that they are relative to.
#pragma once

#include "autograd/kernels/cpu/amx/attention_softmax.h"

namespace ag::AG_ISA {

inline constexpr float kLowest = -3e38F;  // below every score

// Running softmax of 16 queries. The reference moves only when the maximum has grown by more than
// 8 (in log2), so sums are rarely rescaled; probabilities then stay below 2^8, where bf16 and f32
// are as precise as below 1.
struct Softmax {
  __m512 reference = _mm512_set1_ps(kLowest), sum = _mm512_setzero_ps();
};

// Hides the keys of chunk `c` that a query must not see.
inline void hide(float* scores, Diagonal diagonal, int64_t c) {
  if (diagonal.whole(c)) return;
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  for (int64_t j = 0; j < kChunk; ++j) {
    float* const row = scores + j / 16 * 2 * kSumValues + j % 16 * 16;
    for (int64_t half = 0; half < 2; ++half) {
      const __mmask16 sees = lanes_from(diagonal.hidden(c) + j - half * 16);
      float* const p = row + half * kSumValues;
      _mm512_store_ps(p, _mm512_mask_mov_ps(lowest, sees, _mm512_load_ps(p)));
    }
  }
}

// `scores` are those of the 16 queries of `half`; tiles are 2 kSumValues apart.
inline void raise_reference(Softmax& s, const float* scores, int64_t chunks, __m512 scale,
                            float* out_transposed, int64_t value_blocks) {
  __m512 most[4];
  for (__m512& m : most) m = _mm512_set1_ps(-__builtin_inff());
  for (int64_t t = 0; t < 2 * chunks; ++t, scores += 2 * kSumValues) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      most[i % 4] = _mm512_max_ps(most[i % 4], _mm512_load_ps(scores + i * 16));
    }
  }
  const __m512 largest =
      _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
  const __m512 maximum = _mm512_mul_ps(largest, scale);
  const __mmask16 grown =
      _mm512_cmp_ps_mask(maximum, _mm512_add_ps(s.reference, _mm512_set1_ps(8)), _CMP_GT_OQ);
  if (grown == 0) return;
  const __m512 reference = _mm512_mask_mov_ps(s.reference, grown, maximum);
  const __m512 factor = exp2(_mm512_sub_ps(s.reference, reference));
  s.reference = reference;
  s.sum = _mm512_mul_ps(s.sum, factor);
  for (int64_t tile = 0; tile < 2 * value_blocks; ++tile, out_transposed += 2 * kSumValues) {
    for (int i = 0; i < 16; ++i) {
      float* const p = out_transposed + i * 16;
      _mm512_store_ps(p, _mm512_mul_ps(_mm512_load_ps(p), factor));
    }
  }
}

// 2^(scale score - reference) of 16 keys for 16 queries, in pairs of keys.
AG_INLINE void exponentials(Softmax& s, bf16* probabilities, const float* scores, __m512 scale) {
  __m512 even_sum = _mm512_setzero_ps(), odd_sum = even_sum;
#pragma GCC unroll 8
  for (int pair = 0; pair < 8; ++pair) {
    const float* const from = scores + pair * 32;
    const __m512 even = exp2(_mm512_fmsub_ps(_mm512_load_ps(from), scale, s.reference));
    const __m512 odd = exp2(_mm512_fmsub_ps(_mm512_load_ps(from + 16), scale, s.reference));
    even_sum = _mm512_add_ps(even_sum, even);
    odd_sum = _mm512_add_ps(odd_sum, odd);
    _mm512_store_si512(probabilities + pair * kTileDepth, interleave_halves(narrow_two(even, odd)));
  }
  s.sum = _mm512_add_ps(s.sum, _mm512_add_ps(even_sum, odd_sum));
}

}  // namespace ag::AG_ISA
