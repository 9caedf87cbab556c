// The kernel table with an event around every call: name, phase, operations and bytes. Chosen by
// kernels() while recording; the results are those of the table below it, bit for bit.
//
// A product is told apart by its layout, which is the same in all ops:
//   y = x w^T "gemm forward", dx = dy w "gemm dgrad", dw = dy^T x "gemm wgrad".
// A forward kernel that runs again on the way back is of the phase recompute: "gemm recompute",
// "attention recompute", and the category of all others.
#pragma once

#include "autograd/kernels/kernels.h"

namespace ag {

const Kernels& traced_kernels();

}  // namespace ag
