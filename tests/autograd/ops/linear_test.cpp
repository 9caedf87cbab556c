// linear with and without bias: x [N, D], weight [F, D].
#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_grad_directional;
using test_support::check_precision;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::random_tensor;

Value plain(OpInputs& in) { return linear(in.x[0], *in.p[0], nullptr); }
Value biased(OpInputs& in) { return linear(in.x[0], *in.p[0], in.p[1]); }

TEST(LinearOp, GradientMatchesFiniteDifferences) {
  for (const int64_t n : {1, 2, 17}) {
    for (const int64_t d : {1, 3, 65}) {
      for (const int64_t f : {1, 2, 17}) {
        EXPECT_TRUE(check_grad(plain, {.x = {{n, d}}, .p = {{f, d}}})) << n << d << f;
        EXPECT_TRUE(check_grad(biased, {.x = {{n, d}}, .p = {{f, d}, {f}}})) << n << d << f;
      }
    }
  }
}

TEST(LinearOp, OneWeightUsedTwiceGetsBothGradients) {
  const auto square = [](OpInputs& in) {
    return linear(linear(in.x[0], *in.p[0], nullptr), *in.p[0], nullptr);
  };
  EXPECT_TRUE(check_grad(square, {.x = {{3, 5}}, .p = {{5, 5}}}));
}

TEST(LinearOp, DirectionalGradientAtModelSize) {
  EXPECT_TRUE(check_grad_directional(biased, {.x = {{130, 257}}, .p = {{96, 257}, {96}}}));
}

TEST(LinearOp, LowPrecisionAgreesWithFloat64) {
  const test_support::OpShapes shapes{.x = {{65, 129}}, .p = {{33, 129}, {33}}};
  // bf16: the product is rounded once before the bias is added, and once after.
  for (const DType type : {DType::f32, DType::bf16})
    EXPECT_TRUE(check_precision(biased, shapes, type, 2, 129));
}

TEST(LinearOp, RefusesOtherShapesAndTypes) {
  ParamStore store({{"w", {2, 3}, true}, {"b", {3}, true}, {"v", {3}, true}}, DType::f32);
  Tape tape;
  const Value x = tape.leaf(random_tensor({4, 3}, 1, DType::f32));
  expect_refusal(core::ExitCode::kInternal, "linear: expected w [F, 5], got [2, 3]", [&] {
    linear(tape.leaf(random_tensor({4, 5}, 1, DType::f32)), store.at("w"), nullptr);
  });
  expect_refusal(core::ExitCode::kInternal, "linear: expected v [F, 3], got [3]",
                 [&] { linear(x, store.at("v"), nullptr); });
  expect_refusal(core::ExitCode::kInternal, "linear: expected bias->working [2], got [3]",
                 [&] { linear(x, store.at("w"), &store.at("b")); });
  expect_refusal(core::ExitCode::kInternal, "linear: expected x.data of float32, got bfloat16",
                 [&] {
                   linear(tape.leaf(random_tensor({4, 3}, 1, DType::bf16)), store.at("w"), nullptr);
                 });
}

}  // namespace
}  // namespace ag
