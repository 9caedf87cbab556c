// rms_norm: gradients with a small and a dominant eps, wide input to T output, refusals.
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

test_support::Op norm(double eps) {
  return [eps](OpInputs& in) { return rms_norm(in.x[0], *in.p[0], eps, in.type); };
}

TEST(RmsNormOp, GradientMatchesFiniteDifferences) {
  for (const Shape& s : {Shape{1, 1}, Shape{1, 2}, Shape{2, 3}, Shape{3, 17}, Shape{17, 2},
                         Shape{2, 64}, Shape{3, 65}, Shape{65, 3}}) {
    for (const double eps : {1e-5, 0.5})
      EXPECT_TRUE(check_grad(norm(eps), {.x = {s}, .p = {{s.cols()}}})) << to_string(s);
  }
}

TEST(RmsNormOp, DirectionalGradientAtModelSize) {
  EXPECT_TRUE(check_grad_directional(norm(1e-5), {.x = {{128, 576}}, .p = {{576}}}));
}

TEST(RmsNormOp, LowPrecisionAgreesWithFloat64) {
  // Only the output is rounded to T; dx cancels the part along x, at most the size of dx itself.
  for (const DType type : {DType::f32, DType::bf16}) {
    EXPECT_TRUE(check_precision(norm(1e-5), {.x = {{65, 257}}, .p = {{257}}, .wide_x = {0}}, type,
                                type == DType::bf16 ? 1 : 4, 257));
  }
}

TEST(RmsNormOp, RefusesOtherShapesAndTypes) {
  ParamStore store({{"weight", {3}, true}}, DType::f32);
  Tape tape;
  expect_refusal(core::ExitCode::kInternal, "rms_norm: expected weight.working [4], got [3]", [&] {
    rms_norm(tape.leaf(random_tensor({2, 4}, 1, DType::f32)), store.at("weight"), 1e-5, DType::f32);
  });
  expect_refusal(core::ExitCode::kInternal, "rms_norm: expected x.data of float32", [&] {
    rms_norm(tape.leaf(random_tensor({2, 3}, 1, DType::bf16)), store.at("weight"), 1e-5,
             DType::bf16);
  });
  expect_refusal(core::ExitCode::kInternal, "rms_norm: expected x.data of float64", [&] {
    rms_norm(tape.leaf(random_tensor({2, 3}, 1, DType::f32)), store.at("weight"), 1e-5, DType::f64);
  });
}

}  // namespace
}  // namespace ag
