// Matrix products of the CPU: f32 and f64 through OpenBLAS; bf16 through oneDNN where the level has
// bf16 or AVX-512 units, else widened to f32.
#pragma once

#include <string>

#include "autograd/kernels/kernels.h"

namespace ag {

// The gemm of a level; the contract is that of Kernels::gemm.
// oneDNN takes its instruction set once per process, that of active_isa(): the tables avx512 and
// amx of one process run bf16 alike.
using Gemm = void (*)(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b);
Gemm gemm_of(Isa isa);

// Libraries and paths, e.g. "f32: OpenBLAS 0.3.21 (openmp, Cooperlake), bf16: oneDNN 2.6.3 on AMX".
std::string describe_gemm(Isa isa);

void set_gemm_threads(int threads);

}  // namespace ag
