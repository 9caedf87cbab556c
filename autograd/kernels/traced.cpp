#include "autograd/kernels/traced.h"

#include "core/trace.h"

namespace ag {
namespace {

using core::trace::Description;
using core::trace::Phase;
using core::trace::Work;

double bytes_of(const ConstView& v) {
  return v.data == nullptr ? 0 : static_cast<double>(v.numel() * size_of(v.dtype));
}

// What is added to is read as well.
double bytes_of(const View& v) { return bytes_of(ConstView(v)) * (v.accumulate ? 2 : 1); }

template <class... Views>
Work bytes(const Views&... views) {
  return {.bytes = (bytes_of(views) + ...)};
}

const char* category() {
  switch (core::trace::context().phase) {
    case Phase::forward:
      return "forward";
    case Phase::backward:
      return "backward";
    case Phase::recompute:
      return "recompute";
  }
  return "?";
}

// ---- one description per kernel: outputs first, as in the table ----

Description describe_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  const int64_t k = transpose_a ? a.rows : a.cols;
  const double flops = 2.0 * static_cast<double>(c.rows) * static_cast<double>(c.cols * k);
  const Work work{.flops = flops, .bytes = bytes_of(c) + bytes_of(a) + bytes_of(b)};
  if (transpose_a) return {"gemm wgrad", category(), work};
  if (!transpose_b) return {"gemm dgrad", category(), work};
  if (core::trace::context().phase != Phase::forward) return {"gemm recompute", "recompute", work};
  return {"gemm forward", "forward", work};
}

Description describe_zero(View y) { return {"zero", category(), bytes(y)}; }

Description describe_cast(View y, ConstView x) { return {"cast", category(), bytes(y, x)}; }

Description describe_add_bias(View y, ConstView bias) {
  return {"add_bias", category(), {.bytes = 2 * bytes_of(y) + bytes_of(bias)}};
}

Description describe_sum_rows(View y, ConstView x) { return {"sum_rows", category(), bytes(y, x)}; }

// Of the table only the rows that are looked up are touched.
Description describe_embedding_forward(View y, ConstView, ConstView tokens) {
  return {"embedding", category(), {.bytes = 2 * bytes_of(y) + bytes_of(tokens)}};
}

Description describe_embedding_backward(View, ConstView dy, ConstView tokens) {
  return {"embedding", category(), {.bytes = 3 * bytes_of(dy) + bytes_of(tokens)}};
}

Description describe_rms_norm_forward(View y, View rstd, ConstView x, ConstView w, double) {
  return {"rms_norm", category(), bytes(y, rstd, x, w)};
}

Description describe_rms_norm_backward(View dx, View dw_blocks, ConstView dy, ConstView x,
                                       ConstView w, ConstView rstd) {
  return {"rms_norm", category(), bytes(dx, dw_blocks, dy, x, w, rstd)};
}

Description describe_rope(View y, ConstView x, const RopePlan&, ConstView, ConstView, int64_t,
                          int64_t, bool) {
  return {"rope", category(), bytes(y, x)};
}

// Pairs of a query and a key that it sees, over all heads.
double visible_pairs(const AttentionShape& s) {
  const double past = static_cast<double>(s.keys - s.queries);
  const auto queries = static_cast<double>(s.queries);
  return static_cast<double>(s.batch * s.heads) * queries * (past + (queries + 1) / 2);
}

// Two products per visible pair: q k, p v.
Description describe_attention_forward(View out, View lse, ConstView q, ConstView k_rope,
                                       ConstView k_nope, ConstView v, const AttentionShape& s) {
  Work work = bytes(out, lse, q, k_rope, k_nope, v);
  work.flops = 2 * static_cast<double>(s.head_dim + s.value_dim) * visible_pairs(s);
  const bool again = core::trace::context().phase == Phase::recompute;
  return {again ? "attention recompute" : "attention forward", category(), work};
}

// Five: q k again, dout v, and the gradients of q, k and v.
Description describe_attention_backward(View dq, View dk_rope, View dk_nope, View dv,
                                        ConstView dout, ConstView q, ConstView k_rope,
                                        ConstView k_nope, ConstView v, ConstView out, ConstView lse,
                                        const AttentionShape& s) {
  Work work = bytes(dq, dk_rope, dk_nope, dv, dout, q, k_rope, k_nope, v, out, lse);
  work.flops = 2 * static_cast<double>(3 * s.head_dim + 2 * s.value_dim) * visible_pairs(s);
  return {"attention backward", category(), work};
}

Description describe_swiglu_forward(View y, ConstView gate, ConstView up) {
  return {"swiglu", category(), bytes(y, gate, up)};
}

Description describe_swiglu_backward(View dgate, View dup, ConstView dy, ConstView gate,
                                     ConstView up) {
  return {"swiglu", category(), bytes(dgate, dup, dy, gate, up)};
}

Description describe_cross_entropy(View loss, View dlogits, ConstView logits, ConstView targets,
                                   double) {
  return {"cross_entropy", category(), bytes(loss, dlogits, logits, targets)};
}

// Master, m and v are read and written.
Description describe_adamw(View master, View working, View m, View v, ConstView gradient,
                           const AdamWStep&) {
  const double updated = bytes_of(master) + bytes_of(m) + bytes_of(v);
  return {"optimizer", "update", {.bytes = 2 * updated + bytes_of(working) + bytes_of(gradient)}};
}

Description describe_sum_squares(ConstView x) { return {"gradient_norm", "update", bytes(x)}; }

Description describe_count_nonfinite(ConstView x) {
  return {"count_nonfinite", category(), bytes(x)};
}

// ---- the table ----

// kEntry is a member of Kernels, kDescribe the function above that takes the same arguments.
template <auto kEntry, auto kDescribe>
struct Traced;

template <class R, class... A, R (*Kernels::*kEntry)(A...), auto kDescribe>
struct Traced<kEntry, kDescribe> {
  static R call(A... arguments) {
    const core::trace::Scope scope(kDescribe(arguments...));
    return (cpu_kernels(active_isa()).*kEntry)(arguments...);
  }
};

template <auto kEntry, auto kDescribe>
void trace_entry(Kernels& table) {
  if (table.*kEntry != nullptr) table.*kEntry = Traced<kEntry, kDescribe>::call;
}

Kernels make_table() {
  Kernels t = cpu_kernels(active_isa());
  trace_entry<&Kernels::gemm, describe_gemm>(t);
  trace_entry<&Kernels::zero, describe_zero>(t);
  trace_entry<&Kernels::cast, describe_cast>(t);
  trace_entry<&Kernels::add_bias, describe_add_bias>(t);
  trace_entry<&Kernels::sum_rows, describe_sum_rows>(t);
  trace_entry<&Kernels::embedding_forward, describe_embedding_forward>(t);
  trace_entry<&Kernels::embedding_backward, describe_embedding_backward>(t);
  trace_entry<&Kernels::rms_norm_forward, describe_rms_norm_forward>(t);
  trace_entry<&Kernels::rms_norm_backward, describe_rms_norm_backward>(t);
  trace_entry<&Kernels::rope, describe_rope>(t);
  trace_entry<&Kernels::attention_forward, describe_attention_forward>(t);
  trace_entry<&Kernels::attention_backward, describe_attention_backward>(t);
  trace_entry<&Kernels::swiglu_forward, describe_swiglu_forward>(t);
  trace_entry<&Kernels::swiglu_backward, describe_swiglu_backward>(t);
  trace_entry<&Kernels::cross_entropy, describe_cross_entropy>(t);
  trace_entry<&Kernels::adamw, describe_adamw>(t);
  trace_entry<&Kernels::sum_squares, describe_sum_squares>(t);
  trace_entry<&Kernels::count_nonfinite, describe_count_nonfinite>(t);
  return t;
}

}  // namespace

const Kernels& traced_kernels() {
  static const Kernels table = make_table();
  return table;
}

}  // namespace ag
