// Matrix products of the CPU: f32 and f64 through OpenBLAS; bf16 on our own tiles at the level amx,
// through oneDNN at avx512, else widened to f32.
#pragma once

#include <string>

#include "autograd/kernels/kernels.h"

namespace ag {

// c [m, n] (+)= op(a) [m, k] op(b) [k, n].
struct GemmSizes {
  int64_t m, n, k;
};
inline GemmSizes sizes_of(const View& c, const ConstView& a, bool transpose_a) {
  return {c.rows, c.cols, transpose_a ? a.rows : a.cols};
}

// The gemm of a level; the contract is that of Kernels::gemm.
// oneDNN takes its instruction set once per process, that of active_isa(): the table avx512 of a
// process at amx uses AMX.
using Gemm = void (*)(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b);
Gemm gemm_of(Isa isa);

// Libraries and paths, e.g.
// "f32: OpenBLAS 0.3.21 (openmp, Cooperlake), bf16: oneDNN 2.6.3 on AVX-512".
std::string describe_gemm(Isa isa);

void set_gemm_threads(int threads);

}  // namespace ag
