// Vector arithmetic of tiled attention: 16 queries are the lanes. Exponents are in base 2:
// exp(x) = 2^(x log2 e).
#pragma once

#include "autograd/kernels/cpu/amx/attention_pack.h"

namespace ag::AG_ISA {

inline constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;

// 2^x for x <= 127: the polynomial of x - floor(x) has a relative error below 9e-8 and is exactly 1
// at 0; the scaling takes the floor itself. -infinity gives 0, NaN stays.
AG_INLINE __m512 exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.00186713007F), r, _mm512_set1_ps(0.00901703032F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.0557999131F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.24016445F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.693151312F));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1));
  return _mm512_scalef_ps(y, x);
}

// ln(x) for x >= 0: x = 2^e f with f in [0.75, 1.5), ln f = 2 atanh(s), s = (f - 1) / (f + 1),
// whose series ends with an error below 1e-8. 0 gives -infinity, NaN stays.
AG_INLINE __m512 log(__m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  const __m512 f = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  const __m512 e = _mm512_getexp_ps(_mm512_div_ps(x, f));
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(f, one), _mm512_add_ps(f, one));
  const __m512 s2 = _mm512_mul_ps(s, s);
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(2.0F / 9), s2, _mm512_set1_ps(2.0F / 7));
  y = _mm512_fmadd_ps(y, s2, _mm512_set1_ps(2.0F / 5));
  y = _mm512_fmadd_ps(y, s2, _mm512_set1_ps(2.0F / 3));
  y = _mm512_fmadd_ps(_mm512_mul_ps(s2, s), y, _mm512_add_ps(s, s));
  return _mm512_fmadd_ps(e, _mm512_set1_ps(kLn2), y);
}

// Lanes that see a key which is hidden from the first `hidden` of them.
AG_INLINE __mmask16 lanes_from(int64_t hidden) {
  const int64_t n = hidden < 0 ? 0 : hidden > 16 ? 16 : hidden;
  return static_cast<__mmask16>(0xFFFFU << n);
}

// {a lanes, b lanes} in bf16, rounded to nearest even (subnormal values to 0).
AG_INLINE __m512i narrow_two(__m512 a, __m512 b) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
}

// Word 2 i + j of narrow_pairs is word `16 j + i` of narrow_two: pairs (a[i], b[i]).
AG_INLINE __m512i interleave_halves(__m512i x) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, x);
}

// Which of the keys a chunk of queries sees: query lane i of the chunk sees key j of key chunk c
// when i >= hidden(c) + j.
struct Diagonal {
  int64_t first_query_sees;  // index of the last key that the chunk's first query sees

  AG_INLINE int64_t hidden(int64_t key_chunk) const {
    return key_chunk * kChunk - first_query_sees;
  }
  // All queries of the chunk see all keys of the other.
  AG_INLINE bool whole(int64_t key_chunk) const { return hidden(key_chunk) + kChunk - 1 <= 0; }
};

}  // namespace ag::AG_ISA
