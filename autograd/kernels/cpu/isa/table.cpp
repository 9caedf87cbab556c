// The kernels of this instruction set as a table.
#include "autograd/kernels/cpu/isa/isa.h"

namespace ag::AG_ISA {

Kernels table() {
  return {.gemm = nullptr,
          .zero = zero,
          .cast = cast,
          .add_bias = add_bias,
          .sum_rows = sum_rows,
          .embedding_forward = embedding_forward,
          .embedding_backward = embedding_backward,
          .rms_norm_forward = rms_norm_forward,
          .rms_norm_backward = rms_norm_backward,
          .rope = rope,
          .attention_forward = attention_forward,
          .attention_backward = attention_backward,
          .swiglu_forward = swiglu_forward,
          .swiglu_backward = swiglu_backward,
          .cross_entropy = cross_entropy,
          .adamw = adamw,
          .sum_squares = sum_squares,
          .count_nonfinite = count_nonfinite};
}

}  // namespace ag::AG_ISA
