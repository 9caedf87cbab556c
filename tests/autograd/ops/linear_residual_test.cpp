// linear_residual: T product added to a wide residual; x and residual may be one value.
#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_precision;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::random_tensor;

Value plain(OpInputs& in) { return linear_residual(in.x[0], *in.p[0], nullptr, in.x[1]); }
Value biased(OpInputs& in) { return linear_residual(in.x[0], *in.p[0], in.p[1], in.x[1]); }

TEST(LinearResidualOp, GradientMatchesFiniteDifferences) {
  for (const int64_t n : {1, 3, 17}) {
    for (const int64_t d : {1, 2, 17}) {
      for (const int64_t f : {1, 3, 65}) {
        if (n * d * f > 1000) continue;  // four inputs: the number of runs is the product of all
        EXPECT_TRUE(check_grad(plain, {.x = {{n, d}, {n, f}}, .p = {{f, d}}})) << n << d << f;
        EXPECT_TRUE(check_grad(biased, {.x = {{n, d}, {n, f}}, .p = {{f, d}, {f}}})) << n << d << f;
      }
    }
  }
}

TEST(LinearResidualOp, InputThatIsItsOwnResidual) {
  const auto op = [](OpInputs& in) { return linear_residual(in.x[0], *in.p[0], nullptr, in.x[0]); };
  EXPECT_TRUE(check_grad(op, {.x = {{3, 5}}, .p = {{5, 5}}}));
}

TEST(LinearResidualOp, LowPrecisionAgreesWithFloat64) {
  // The sum is wide; bf16 rounds dx.
  for (const DType type : {DType::f32, DType::bf16}) {
    EXPECT_TRUE(check_precision(
        biased, {.x = {{65, 129}, {65, 33}}, .p = {{33, 129}, {33}}, .wide_x = {1}}, type, 1, 129));
  }
}

TEST(LinearResidualOp, RefusesOtherShapesAndTypes) {
  ParamStore store({{"w", {2, 3}, true}}, DType::bf16);
  Tape tape;
  const Value x = tape.leaf(random_tensor({4, 3}, 1, DType::bf16));
  const auto with_residual = [&](const Shape& shape, DType type) {
    return [&tape, &store, x, shape, type] {
      linear_residual(x, store.at("w"), nullptr, tape.leaf(random_tensor(shape, 1, type)));
    };
  };
  expect_refusal(core::ExitCode::kInternal,
                 "linear_residual: expected residual.data [4, 2], got [4, 3]",
                 with_residual({4, 3}, DType::f32));
  expect_refusal(core::ExitCode::kInternal,
                 "linear_residual: expected residual.data of float32, got bfloat16",
                 with_residual({4, 2}, DType::bf16));
  const Value narrow = tape.leaf(random_tensor({4, 2}, 1, DType::bf16));
  expect_refusal(core::ExitCode::kInternal, "linear_residual: expected w [F, 2], got [2, 3]", [&] {
    linear_residual(narrow, store.at("w"), nullptr, tape.leaf(random_tensor({4, 2}, 1)));
  });
}

}  // namespace
}  // namespace ag
