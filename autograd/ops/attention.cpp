// out = softmax(scale * q k^T + causal) v, never as a [T, T] matrix; the backward recomputes the
// probabilities from lse:  p = exp(s - lse),  ds = p (dp - rowsum(dout * out)).
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

ConstView view_or_null(const Tensor& t) { return t.defined() ? t.view() : ConstView{}; }

struct Attention {
  static constexpr const char* kName = "attention";
  Tensor q, k_rope, k_nope, v;  // the inputs; a key part without columns is undefined
  Tensor out;                   // [B*Tq, H*Dv]
  Tensor lse;                   // [B*H, Tq] wide
  AttentionShape shape;

  void backward(Grads& g) const {
    const View dq = g.in_or_null(0), dk_rope = g.in_or_null(1), dk_nope = g.in_or_null(2),
               dv = g.in_or_null(3);
    kernels(q.device())
        .attention_backward(dq, dk_rope, dk_nope, dv, g.out(), q, view_or_null(k_rope),
                            view_or_null(k_nope), v, out, lse, shape);
  }
};

void check_key_part(const char* name, const Tensor& part, DType type, const AttentionShape& s,
                    bool rope) {
  int64_t end = 0;
  for (size_t g = 0; g < static_cast<size_t>(s.kv_heads); ++g) {
    const int64_t width = rope ? s.rope_width[g] : s.head_dim - s.rope_width[g];
    const int64_t begin = rope ? s.rope_begin[g] : s.nope_begin[g];
    CHECK_ARGUMENT("attention", width >= 0 && begin >= 0, "key parts inside the head", name);
    if (width > 0) end = std::max(end, begin + width);
  }
  const int64_t columns = part.defined() ? part.cols() : 0;
  CHECK_ARGUMENT("attention", end <= columns && (columns == 0 || part.rows() == s.batch * s.keys),
                 std::string(name) + " [B*Tk, >= " + std::to_string(end) + "]",
                 part.defined() ? to_string(part.shape()) : "nothing");
  CHECK_ARGUMENT("attention", !part.defined() || part.dtype() == type,
                 std::string(name) + " of " + std::string(name_of(type)),
                 std::string(name_of(part.dtype())));
}

// Why: the backward asks for all destinations at once, and two of them must not be the same memory.
void check_separate(std::initializer_list<Value> inputs) {
  for (const Value& a : inputs) {
    for (const Value& b : inputs)
      CHECK_ARGUMENT("attention", &a == &b || a.slot < 0 || a.slot != b.slot, "separate values",
                     "one value twice");
  }
}

}  // namespace

Value attention(const Value& q, const Value& k_rope, const Value& k_nope, const Value& v,
                const AttentionShape& shape) {
  const AttentionShape& s = shape;
  const auto heads = static_cast<size_t>(s.kv_heads);
  CHECK_ARGUMENT("attention", s.kv_heads > 0 && s.heads % s.kv_heads == 0,
                 "kv heads that divide the heads",
                 std::to_string(s.kv_heads) + " and " + std::to_string(s.heads));
  CHECK_ARGUMENT(
      "attention",
      s.rope_begin.size() == heads && s.rope_width.size() == heads && s.nope_begin.size() == heads,
      "a key layout per kv head", "another number");
  CHECK_ARGUMENT("attention", s.keys >= s.queries, "at least as many keys as queries",
                 std::to_string(s.keys));
  CHECK_SHAPE("attention", q.data, (Shape{s.batch * s.queries, s.heads * s.head_dim}));
  CHECK_SHAPE("attention", v.data, (Shape{s.batch * s.keys, s.kv_heads * s.value_dim}));
  CHECK_DTYPE("attention", v.data, q.data.dtype());
  check_key_part("k_rope", k_rope.data, q.data.dtype(), s, true);
  check_key_part("k_nope", k_nope.data, q.data.dtype(), s, false);
  check_separate({q, k_rope, k_nope, v});
  Tensor out = Tensor::empty({s.batch * s.queries, s.heads * s.value_dim}, q.data.dtype());
  Tensor lse = Tensor::empty({s.batch * s.heads, s.queries}, wide_of(q.data.dtype()));
  kernels(out.device())
      .attention_forward(out.view(), lse.view(), q.data, view_or_null(k_rope.data),
                         view_or_null(k_nope.data), v.data, s);
  return q.tape->record(Attention{q.data, k_rope.data, k_nope.data, v.data, out, lse, shape},
                        {q, k_rope, k_nope, v}, out);
}

}  // namespace ag
