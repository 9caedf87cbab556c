// Recompute as an op: forward keeps only the input, backward runs `fn` again and differentiates it.
#pragma once

#include <functional>

#include "autograd/tape.h"

namespace ag {

// y = fn(x); fn is called once now and, if a gradient is wanted, once more in the backward.
// Gradients are the same bits as without recompute.
// Requires: fn is a pure function of x and parameters, captures no other Value, and ends in the op
// that makes y. What it captures by reference outlives the tape. (Else the backward throws
// kInternal: "inputs of one tape" or "the last value of this tape".)
Value checkpoint(const Value& x, std::function<Value(const Value&)> fn);

}  // namespace ag
