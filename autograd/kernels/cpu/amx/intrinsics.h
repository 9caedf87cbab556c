// The compiler's intrinsics, and the two that they lack.
#pragma once

// GCC 12 takes the unused operand of its own unmasked intrinsics for a variable without a value.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "autograd/kernels/cpu/isa/simd.h"

namespace ag::AG_ISA {

// Lanes [0, n).
AG_INLINE __mmask32 lanes_below(int64_t n) {
  return n >= 32 ? ~__mmask32{0} : n <= 0 ? __mmask32{0} : (__mmask32{1} << n) - 1;
}

// 16 bf16 in f32.
AG_INLINE __m512 widened(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

}  // namespace ag::AG_ISA
