// Memory that a product takes from the pool while it runs, for predictions.
#pragma once

#include <cstdint>

#include "autograd/core/dtype.h"

namespace ag {

// Bytes that c [m, n] = op(a) [m, k] op(b) [k, n] with bf16 operands and c of type `result` packs
// for itself on own tiles, at the present number of threads. 0 at every other instruction set: what
// oneDNN asks for is known only once a product is built, and widened copies are left out.
int64_t gemm_scratch_bytes(int64_t m, int64_t n, int64_t k, bool transpose_a, DType result);

}  // namespace ag
