// The kernels that use AMX tiles. They exist for bf16 only; everything else of the table `amx` is
// the AVX-512 kernel. What cpu/isa/isa.h requires of its files holds here too: this folder is
// compiled for AVX-512 with AMX.
//
// Every sum has one owner and an order that depends on sizes alone, so the results are the same for
// any number of threads.
#pragma once

#include "autograd/kernels/kernels.h"

namespace ag::AG_ISA {

// `table`, which is that of AVX-512, with the kernels of this folder in the places of its own.
Kernels with_tiles(Kernels table);

}  // namespace ag::AG_ISA
