// attention: every layout of the keys (MHA, GQA, MLA with split, unequal and shared rotary parts).
#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_grad_directional;
using test_support::check_precision;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::OpShapes;
using test_support::random_tensor;

// rope_width[g] columns of each kv head come from k_rope (packed, or shared by all when
// `shared_rope`), the rest from k_nope (packed).
struct Layout {
  const char* name;
  int64_t heads, kv_heads, head_dim, value_dim;
  std::vector<int64_t> rope_width;
  bool shared_rope = false;
};

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{
      {"MHA", 2, 2, 3, 3, {3, 3}},
      {"one head of one column", 1, 1, 1, 1, {1}},
      {"GQA", 4, 2, 4, 2, {4, 4}},
      {"MQA", 3, 1, 2, 5, {2}},
      {"MLA, split", 2, 2, 6, 5, {2, 2}},
      {"MLA, another width per head", 3, 3, 6, 2, {0, 4, 6}},
      {"MLA with kv groups", 4, 2, 4, 3, {2, 0}},
      {"MLA without rotary columns", 2, 2, 3, 2, {0, 0}},
      {"MLA, shared rotary key", 3, 3, 5, 3, {2, 2, 2}, true},
  };
  return all;
}

AttentionShape shape_of(const Layout& l, int64_t batch, int64_t tokens) {
  AttentionShape s;
  s.batch = batch;
  s.queries = s.keys = tokens;
  s.heads = l.heads;
  s.kv_heads = l.kv_heads;
  s.head_dim = l.head_dim;
  s.value_dim = l.value_dim;
  s.scale = 0.7;
  s.rope_width = l.rope_width;
  int64_t rope = 0, nope = 0;
  for (const int64_t width : l.rope_width) {
    s.rope_begin.push_back(l.shared_rope ? 0 : rope);
    s.nope_begin.push_back(nope);
    rope += width;
    nope += l.head_dim - width;
  }
  return s;
}

int64_t rope_columns(const Layout& l) {
  if (l.shared_rope) return l.rope_width[0];
  int64_t sum = 0;
  for (const int64_t width : l.rope_width) sum += width;
  return sum;
}

int64_t nope_columns(const Layout& l) {
  int64_t sum = 0;
  for (const int64_t width : l.rope_width) sum += l.head_dim - width;
  return sum;
}

// Inputs: q, v, then the key parts that have columns.
OpShapes inputs_of(const Layout& l, int64_t rows) {
  OpShapes shapes{.x = {{rows, l.heads * l.head_dim}, {rows, l.kv_heads * l.value_dim}}};
  for (const int64_t columns : {rope_columns(l), nope_columns(l)})
    if (columns > 0) shapes.x.push_back({rows, columns});
  return shapes;
}

test_support::Op attend(const Layout& l, const AttentionShape& s) {
  return [&l, s](OpInputs& in) {
    const bool has_rope = rope_columns(l) > 0, has_nope = nope_columns(l) > 0;
    const Value none = in.tape.constant(Tensor());
    return attention(in.x[0], has_rope ? in.x[2] : none, has_nope ? in.x.back() : none, in.x[1], s);
  };
}

TEST(AttentionOp, GradientMatchesFiniteDifferences) {
  for (const Layout& l : layouts()) {
    for (const auto& [batch, tokens] : {std::pair{1, 1}, {2, 2}, {2, 7}}) {
      EXPECT_TRUE(check_grad(attend(l, shape_of(l, batch, tokens)), inputs_of(l, batch * tokens)))
          << l.name << ", B = " << batch << ", T = " << tokens;
    }
  }
}

TEST(AttentionOp, GradientAcrossTiles) {
  for (const Layout& l : {layouts()[1], layouts()[5]})
    EXPECT_TRUE(check_grad(attend(l, shape_of(l, 1, 33)), inputs_of(l, 33))) << l.name;
}

TEST(AttentionOp, DirectionalGradientAtModelSize) {
  const Layout mla{"MLA", 4, 4, 64, 64, {32, 8, 0, 64}};
  const Layout gqa{"GQA", 6, 2, 64, 64, {64, 64}};
  for (const Layout& l : {mla, gqa})
    EXPECT_TRUE(check_grad_directional(attend(l, shape_of(l, 2, 161)), inputs_of(l, 2 * 161)))
        << l.name;
}

TEST(AttentionOp, LowPrecisionAgreesWithFloat64) {
  for (const Layout& l : layouts()) {
    for (const DType type : {DType::f32, DType::bf16}) {
      // On the way to a gradient P, out (in delta), dS and the gradient itself are rounded.
      EXPECT_TRUE(check_precision(attend(l, shape_of(l, 2, 65)), inputs_of(l, 130), type, 4, 65))
          << l.name;
    }
  }
}

TEST(AttentionOp, RefusesOtherShapesAndTypes) {
  const Layout& l = layouts()[4];
  const AttentionShape good = shape_of(l, 1, 4);
  Tape tape;
  const auto value = [&](int64_t columns, DType type = DType::f64) {
    return tape.leaf(random_tensor({4, columns}, 1, type));
  };
  const Value q = value(12), k_rope = value(4), k_nope = value(8), v = value(10);
  constexpr auto kCode = core::ExitCode::kInternal;
  expect_refusal(kCode, "attention: expected q.data [4, 12]",
                 [&] { attention(value(11), k_rope, k_nope, v, good); });
  expect_refusal(kCode, "attention: expected v.data [4, 10]",
                 [&] { attention(q, k_rope, k_nope, value(9), good); });
  expect_refusal(kCode, "attention: expected k_rope [B*Tk, >= 4]",
                 [&] { attention(q, value(3), k_nope, v, good); });
  expect_refusal(kCode, "attention: expected k_nope [B*Tk, >= 8], got nothing",
                 [&] { attention(q, k_rope, tape.constant(Tensor()), v, good); });
  for (const auto& [what, k1, k2, v1] :
       {std::tuple{"k_rope", value(4, DType::f32), k_nope, v},
        std::tuple{"k_nope", k_rope, value(8, DType::f32), v},
        std::tuple{"v.data", k_rope, k_nope, value(10, DType::f32)}}) {
    expect_refusal(kCode, "attention: expected " + std::string(what) + " of float64, got float32",
                   [&, &a = k1, &b = k2, &c = v1] { attention(q, a, b, c, good); });
  }
  const Layout& mha = layouts()[0];
  const Value same = value(6);
  expect_refusal(kCode, "attention: expected separate values", [&] {
    attention(same, same, tape.constant(Tensor()), value(6), shape_of(mha, 1, 4));
  });
  AttentionShape uneven = good;
  uneven.heads = 3;
  expect_refusal(kCode, "attention: expected kv heads that divide the heads",
                 [&] { attention(q, k_rope, k_nope, v, uneven); });
  AttentionShape outside = good;
  outside.rope_width[1] = -1;
  expect_refusal(kCode, "attention: expected key parts inside the head",
                 [&] { attention(q, k_rope, k_nope, v, outside); });
}

}  // namespace
}  // namespace ag
