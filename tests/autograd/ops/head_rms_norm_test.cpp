// head_rms_norm: gradients, agreement with rms_norm head by head, refusals.
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

Value norm(OpInputs& in) { return head_rms_norm(in.x[0], *in.p[0], 1e-5); }

TEST(HeadRmsNormOp, GradientMatchesFiniteDifferences) {
  for (const int64_t heads : {1, 3})
    for (const Shape& s : {Shape{1, 2}, Shape{5, 4}, Shape{65, 3}, Shape{3, 65}})
      EXPECT_TRUE(check_grad(norm, {.x = {{s.rows(), heads * s.cols()}}, .p = {{s.cols()}}}))
          << heads << " heads of " << to_string(s);
}

TEST(HeadRmsNormOp, DirectionalGradientAtModelSize) {
  EXPECT_TRUE(check_grad_directional(norm, {.x = {{64, 16 * 128}}, .p = {{128}}}));
}

TEST(HeadRmsNormOp, LowPrecisionAgreesWithFloat64) {
  // bf16: the output is rounded to T and so is dx; the arithmetic between is that of rms_norm.
  for (const DType type : {DType::f32, DType::bf16})
    EXPECT_TRUE(check_precision(norm, {.x = {{65, 4 * 32}}, .p = {{32}}}, type,
                                type == DType::bf16 ? 2 : 4, 32));
}

TEST(HeadRmsNormOp, IsRmsNormOfEveryHead) {
  ParamStore store({{"gain", {8}, true}}, DType::f32);
  store.load(store.at("gain"), random_tensor({8}, 1, DType::f32));
  Tape tape;
  const Tensor x = random_tensor({6, 3 * 8}, 2, DType::f32);
  const Value y = head_rms_norm(tape.leaf(x), store.at("gain"), 1e-5);
  const Value heads = rms_norm(tape.leaf(x.reshaped({18, 8})), store.at("gain"), 1e-5, DType::f32);
  EXPECT_EQ(y.data.to_host<float>(), heads.data.to_host<float>());
}

TEST(HeadRmsNormOp, RefusesOtherShapesAndTypes) {
  ParamStore store({{"gain", {4}, true}}, DType::f32);
  Tape tape;
  const auto apply = [&](const Shape& shape, DType type) {
    return [&, shape, type] {
      head_rms_norm(tape.leaf(random_tensor(shape, 1, type)), store.at("gain"), 1e-5);
    };
  };
  expect_refusal(core::ExitCode::kInternal, "head_rms_norm: expected whole heads of [4]",
                 apply({2, 6}, DType::f32));
  expect_refusal(core::ExitCode::kInternal, "head_rms_norm: expected weight.working of float64",
                 apply({2, 8}, DType::f64));
}

}  // namespace
}  // namespace ag
