// The public ops, one line of shapes each. Types: activations are f32, bf16 or f64 ("T"); the
// residual stream, statistics and norm weights are wide (f32; f64 when T is f64). rms_norm (wide ->
// T) and linear_residual (T -> wide) stand at the border; anywhere else types must agree.
//
// N = B * Tokens rows, row-major. Every op throws kInternal naming itself when shapes, types or ids
// are not what its line says.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "autograd/kernels/attention_shape.h"
#include "autograd/kernels/rope_plan.h"
#include "autograd/tape.h"

namespace ag {

// table [V, D] T, ids [N] i32, each in [0, V) -> [N, D] wide.
Value embedding(Tape& tape, Param& table, const Tensor& ids);

// x [N, D] wide, weight [D] wide -> [N, D] of type `out`.  y = x / sqrt(mean(x^2) + eps) * weight
Value rms_norm(const Value& x, Param& weight, double eps, DType out);

// x [N, H*D] T, weight [D] wide -> the same shape: every head's D columns normalised by themselves.
Value head_rms_norm(const Value& x, Param& weight, double eps);

// x [N, D] T, weight [F, D], bias [F] or null -> [N, F] T.  y = x weight^T + bias
Value linear(const Value& x, Param& weight, Param* bias);

// The same, added to residual [N, F] wide -> [N, F] wide.
Value linear_residual(const Value& x, Param& weight, Param* bias, const Value& residual);

// h [N, D] T -> [N, V] wide: all logits at once, for evaluation and decoding; no gradient.
Tensor wide_logits(const Tensor& h, const Param& weight);

// x + y, [N, D] each.
Value add(const Value& x, const Value& y);

// silu(gate) * up, [N, F] each, two values.
Value swiglu(const Value& gate, const Value& up);

// Cosines and sines of position * inverse frequency, [positions, P] wide. Shared by all layers.
struct RopeTable {
  Tensor cosine, sine;
  static RopeTable build(const std::vector<double>& inverse_frequencies, int64_t positions,
                         DType wide);
};

// x [N, plan.columns] T -> the same shape, columns turned and placed as the plan says. Row n has
// position first_position + n % tokens, which the table must hold, as it must every frequency of
// the plan. `plan` must outlive the tape.
Value rope(const Value& x, const RopePlan& plan, const RopeTable& table, int64_t tokens,
           int64_t first_position);

// q [B*Tq, H*D], k_rope and k_nope [B*Tk, *] (either may be a constant without data),
// v [B*Tk, G*Dv] -> [B*Tq, H*Dv]. Causal; see AttentionShape. No two inputs may be one value that
// wants a gradient. Keeps q, k, v, out and lse [B*H, Tq].
Value attention(const Value& q, const Value& k_rope, const Value& k_nope, const Value& v,
                const AttentionShape& shape);

// Rows of logits that exist at a time, for a weight [V, width]. Why so many: a chunk streams the
// weight three times and its f32 gradient once, so that few rows are bound by memory, while 2 *
// width rows of logits take no more bytes than those.
constexpr int64_t loss_chunk_rows(int64_t width) {
  return std::clamp<int64_t>(2 * width / 128 * 128, 256, 512);
}

struct LossOptions {
  // What the tape will be run backwards with; see linear_cross_entropy.
  double gradient_scale = 1;
  // Receives the loss of each row, [N, 1] f64.
  Tensor* row_loss = nullptr;
};

// h [N, D] T, weight [V, D] T, targets [N] i32, each in [0, V) -> [1] f64: the sum over rows, in
// nats, of -log softmax(h weight^T)[target]. Logits exist for one chunk of rows at a time, and
// once: a recording forward adds gradient_scale * dweight to the selected gradient buffer right
// away and keeps gradient_scale * dh, nothing else. Requires, when a gradient is wanted: the
// backward's seed is gradient_scale and the gradient buffer is still the same (else it throws
// kInternal); no other op changes weight or h in between.
Value linear_cross_entropy(const Value& h, Param& weight, const Tensor& targets,
                           const LossOptions& options = {});

}  // namespace ag
