// Arithmetic of sizes.
#pragma once

#include "autograd/kernels/cpu/isa/simd.h"

namespace ag::AG_ISA {

AG_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
AG_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
AG_INLINE int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
AG_INLINE int64_t round_up(int64_t n, int64_t multiple) {
  return divide_up(n, multiple) * multiple;
}

}  // namespace ag::AG_ISA
