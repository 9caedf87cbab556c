// The kernel table of a device: plain functions of views, no tensors, no tape. Pointers and sizes
// are trusted (the ops have checked them). Outputs come first; `accumulate` of an output chooses =
// or +=.
//
// Every kernel has the same result for the same inputs and thread count: reductions run in a fixed
// order, there are no atomics on floats. A missing entry is a null pointer; kernels(device) hands
// the table out, and CHECK_KERNEL names what is missing.
//
// Unless a line says otherwise the floating views of one call share one dtype T in {f32, bf16,
// f64}; arithmetic is done in float for f32 and bf16, in double for f64 ("wide").
#pragma once

#include <string>
#include <string_view>

#include "autograd/core/view.h"
#include "autograd/kernels/attention_shape.h"
#include "autograd/kernels/rope_plan.h"

namespace ag {

struct AdamWStep {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double gradient_scale;  // the gradient is multiplied by this first (clipping)
  int64_t step;           // 1-based, for the bias correction
};

// Rows of which rms_norm_backward sums the weight's gradient.
inline constexpr int64_t kNormBlock = 64;

struct Kernels {
  // c [M, N] (+)= op(a) op(b), op = transpose when the flag is set. Types: all f32; all f64; a and
  // b bf16 with c bf16 or f32 (accumulated in f32).
  void (*gemm)(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) = nullptr;

  // y = 0.
  void (*zero)(View y) = nullptr;
  // y (+)= x, any pair of floating types, [R, C] each.
  void (*cast)(View y, ConstView x) = nullptr;
  // y [R, C] += bias [1, C]; y and bias of any floating types.
  void (*add_bias)(View y, ConstView bias) = nullptr;
  // y [1, C] (+)= sum over rows of x [R, C]; y is wide. Order: fixed blocks of rows, then the
  // blocks.
  void (*sum_rows)(View y, ConstView x) = nullptr;

  // y [N, D] (+)= table[tokens[n], :]; y and table of any floating types; tokens [1, N] i32, each
  // in [0, V).
  void (*embedding_forward)(View y, ConstView table, ConstView tokens) = nullptr;
  // dtable [V, D] += dy [N, D] by token; always accumulates, in the order of n; dtable is wide.
  void (*embedding_backward)(View dtable, ConstView dy, ConstView tokens) = nullptr;

  // y [N, D] = x * rstd * w, rstd [N, 1] = 1 / sqrt(mean(x^2) + eps). x, w, rstd are wide (f32 or
  // f64); y is T.
  void (*rms_norm_forward)(View y, View rstd, ConstView x, ConstView w, double eps) = nullptr;
  // dx [N, D] (+)= ..., and row b of dw_blocks [ceil(N / kNormBlock), D] = the sum of dy x rstd
  // over rows [b, b + 1) * kNormBlock: dw is the sum of its rows. A gradient that is not wanted has
  // null data. dy is T, all others are wide.
  void (*rms_norm_backward)(View dx, View dw_blocks, ConstView dy, ConstView x, ConstView w,
                            ConstView rstd) = nullptr;

  // Partial rotary embedding of x [N, plan.columns]; row n has position `first_position + n %
  // tokens`. cosine and sine [positions, P] are wide. `inverse` applies the transpose (the
  // backward).
  void (*rope)(View y, ConstView x, const RopePlan& plan, ConstView cosine, ConstView sine,
               int64_t tokens, int64_t first_position, bool inverse) = nullptr;

  // out [B*Tq, H*value_dim], lse [B*H, Tq] wide <- q [B*Tq, H*D], k_rope, k_nope [B*Tk, *], v
  // [B*Tk, G*value_dim]. Causal, softmax in wide arithmetic, memory O(T): no [T, T] matrix. A key
  // part without columns has null data. lse is the natural logarithm of the sum of exp(score).
  void (*attention_forward)(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                            ConstView v, const AttentionShape& shape) = nullptr;
  // Gradients of the four inputs; one that is not wanted has null data. Key and value gradients are
  // summed over the query heads that share them.
  void (*attention_backward)(View dq, View dk_rope, View dk_nope, View dv, ConstView dout,
                             ConstView q, ConstView k_rope, ConstView k_nope, ConstView v,
                             ConstView out, ConstView lse, const AttentionShape& shape) = nullptr;

  // y [N, F] = silu(gate) * up.
  void (*swiglu_forward)(View y, ConstView gate, ConstView up) = nullptr;
  // A gradient that is not wanted has null data.
  void (*swiglu_backward)(View dgate, View dup, ConstView dy, ConstView gate,
                          ConstView up) = nullptr;

  // For each row of logits [N, V] (wide): loss [N, 1] f64 = log(sum exp(logits)) - logits[target],
  // dlogits [N, V] (T) = scale * (softmax(logits) - onehot(target)), null data when not wanted.
  // targets [1, N] i32, each in [0, V). Overwrites. A row of dlogits may begin where that row of
  // logits does, which are then lost.
  void (*cross_entropy)(View loss, View dlogits, ConstView logits, ConstView targets,
                        double scale) = nullptr;

  // Decoupled-decay Adam over flat [1, n] slices: master, m, v and gradient wide; working is the
  // copy of master in the compute type, null data when it is the master itself.
  void (*adamw)(View master, View working, View m, View v, ConstView gradient,
                const AdamWStep& step) = nullptr;
  // Sum of squares in f64, in fixed blocks of 4096 elements whatever the number of threads.
  double (*sum_squares)(ConstView x) = nullptr;
  // Number of elements that are NaN or infinite.
  int64_t (*count_nonfinite)(ConstView x) = nullptr;
};

// Instruction sets from low to high. amx = avx512 kernels, and bf16 GEMMs on AMX tiles.
enum class Isa : uint8_t { baseline, avx2, avx512, amx };

std::string_view name_of(Isa isa);
// The highest level of this machine, or the lower one that MHA2MLA_ISA names. Throws kBadConfig for
// a name that does not exist or a level that the machine has not.
Isa active_isa();

const Kernels& kernels(Device device);
// The CPU table at a given level, for tests and benchmarks; Requires: level <= active_isa().
const Kernels& cpu_kernels(Isa isa);

// One line each for the banner: which GEMM path runs f32 and bf16, number of threads, warnings.
std::string describe_backend();

// Threads of every kernel and library from here on; comes before the first product.
void set_threads(int threads);
int threads();

}  // namespace ag
