// Attention of the table `amx`: on tiles for bf16, the AVX-512 kernels for all else.
#include "autograd/kernels/cpu/amx/amx.h"

namespace ag::avx512 {
void attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                       ConstView v, const AttentionShape& shape);
void attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout, ConstView q,
                        ConstView k_rope, ConstView k_nope, ConstView v, ConstView out,
                        ConstView lse, const AttentionShape& shape);
}  // namespace ag::avx512

namespace ag::AG_ISA {
namespace {

// The largest score is found before the scale is applied, so that must not turn it around.
bool fits_tiles(ConstView q, const AttentionShape& shape) {
  return q.dtype == DType::bf16 && shape.scale > 0;
}

}  // namespace

void attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                       ConstView v, const AttentionShape& shape) {
  const auto kernel = fits_tiles(q, shape) ? tiled_attention_forward : avx512::attention_forward;
  kernel(out, lse, q, k_rope, k_nope, v, shape);
}

void attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout, ConstView q,
                        ConstView k_rope, ConstView k_nope, ConstView v, ConstView out,
                        ConstView lse, const AttentionShape& shape) {
  const auto kernel = fits_tiles(q, shape) ? tiled_attention_backward : avx512::attention_backward;
  kernel(dq, dk_rope, dk_nope, dv, dout, q, k_rope, k_nope, v, out, lse, shape);
}

}  // namespace ag::AG_ISA
