// The kernels that are compiled once per instruction set (cmake/kernels.cmake defines AG_ISA).
//
// Requires of every file in this folder: no standard containers and no inline functions of other
// headers that the compiler might emit out of line. The linker keeps one copy of such a function,
// and if that copy is the AVX-512 one, the program dies on an older machine. tools/check_isa.py
// looks.
#pragma once

#include <omp.h>

#include "autograd/kernels/kernels.h"

namespace ag::AG_ISA {

void zero(View y);
void cast(View y, ConstView x);
void add_bias(View y, ConstView bias);
void sum_rows(View y, ConstView x);
void embedding_forward(View y, ConstView table, ConstView tokens);
void embedding_backward(View dtable, ConstView dy, ConstView tokens);
void rms_norm_forward(View y, View rstd, ConstView x, ConstView w, double eps);
void rms_norm_backward(View dx, View dw_blocks, ConstView dy, ConstView x, ConstView w,
                       ConstView rstd);
void rope(View y, ConstView x, const RopePlan& plan, ConstView cosine, ConstView sine,
          int64_t tokens, int64_t first_position, bool inverse);
void attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                       ConstView v, const AttentionShape& shape);
void attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout, ConstView q,
                        ConstView k_rope, ConstView k_nope, ConstView v, ConstView out,
                        ConstView lse, const AttentionShape& shape);
void swiglu_forward(View y, ConstView gate, ConstView up);
void swiglu_backward(View dgate, View dup, ConstView dy, ConstView gate, ConstView up);
void cross_entropy(View loss, View dlogits, ConstView logits, ConstView targets, double scale);
void adamw(View master, View working, View m, View v, ConstView gradient, const AdamWStep& step);
double sum_squares(ConstView x);
int64_t count_nonfinite(ConstView x);

// The table of this instruction set; gemm is filled in by the registry.
Kernels table();

}  // namespace ag::AG_ISA
