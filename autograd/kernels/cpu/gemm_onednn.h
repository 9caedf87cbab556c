// Products of bf16 through oneDNN: the path of the level avx512, and what our own tiles are tested
// and measured against.
//
// oneDNN takes its instruction set once per process, that of active_isa(): with AMX it uses tiles.
#pragma once

#include <string>

#include "autograd/kernels/kernels.h"

namespace ag {

// The contract of Kernels::gemm for a and b bf16 and a product that is not empty. Requires:
// active_isa() >= avx512.
void one_dnn_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b);

// "oneDNN 2.6.3"
std::string one_dnn_version();

}  // namespace ag
