// Recompute as an op: forward keeps only the input, backward runs `fn` again and differentiates it.
#pragma once

#include <functional>

#include "autograd/tape.h"

namespace ag {

// y = fn(x). `fn` must be a pure function of x and parameters; it is called once now and, if a
// gradient is wanted, once more in the backward. Gradients are the same bits as without recompute.
Value checkpoint(const Value& x, std::function<Value(const Value&)> fn);

}  // namespace ag
