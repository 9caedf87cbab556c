// Ids that index the rows of a table. Kernels trust them, so the ops look at each once: beside a
// product with the vocabulary a pass over N integers costs nothing.
#pragma once

#include "autograd/core/tensor.h"

namespace ag {

// Throws kInternal naming `op` unless every element of `ids` (i32) is in [0, rows).
void check_ids(const char* op, const Tensor& ids, int64_t rows);

}  // namespace ag
