// The kernels that use AMX tiles. They exist for bf16 only; everything else of the table `amx` is
// the AVX-512 kernel. What cpu/isa/isa.h requires of its files holds here too: this folder is
// compiled for AVX-512 with AMX.
//
// Every sum has one owner and an order that depends on sizes alone, so the results are the same for
// any number of threads.
#pragma once

#include "autograd/kernels/kernels.h"

namespace ag::AG_ISA {

void attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                       ConstView v, const AttentionShape& shape);
void attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout, ConstView q,
                        ConstView k_rope, ConstView k_nope, ConstView v, ConstView out,
                        ConstView lse, const AttentionShape& shape);
// The same for bf16 and a positive scale.
void tiled_attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                             ConstView v, const AttentionShape& shape);
void tiled_attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout,
                              ConstView q, ConstView k_rope, ConstView k_nope, ConstView v,
                              ConstView out, ConstView lse, const AttentionShape& shape);

// `table`, which is that of AVX-512, with the kernels of this folder in the places of its own.
Kernels with_tiles(Kernels table);

}  // namespace ag::AG_ISA
