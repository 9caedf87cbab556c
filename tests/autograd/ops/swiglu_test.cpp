// swiglu: gradients, saturated gates, refusals.
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

Value gated(OpInputs& in) { return swiglu(in.x[0], in.x[1]); }

TEST(SwigluOp, GradientMatchesFiniteDifferences) {
  for (const Shape& s : {Shape{1, 1}, Shape{2, 3}, Shape{3, 17}, Shape{1, 64}, Shape{2, 65}})
    EXPECT_TRUE(check_grad(gated, {.x = {s, s}})) << to_string(s);
}

TEST(SwigluOp, DirectionalGradientAtModelSize) {
  EXPECT_TRUE(check_grad_directional(gated, {.x = {{65, 1537}, {65, 1537}}}));
}

TEST(SwigluOp, LowPrecisionAgreesWithFloat64) {
  // f32: the exponential, the division and three products, each within two units.
  for (const DType type : {DType::f32, DType::bf16})
    EXPECT_TRUE(
        check_precision(gated, {.x = {{65, 65}, {65, 65}}}, type, type == DType::bf16 ? 1 : 8, 1));
}

TEST(SwigluOp, SaturatedGatesStayFinite) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    const std::vector<double> gates{-1e4, -200, -90, 0, 90, 200, 1e4};
    Tensor gate = Tensor::empty({1, 7}, type), up = Tensor::empty({1, 7}, type);
    const std::vector<double> ones(7, 1);
    kernels(Device::cpu).cast(gate.view(), Tensor::from_host<double>({1, 7}, gates));
    kernels(Device::cpu).cast(up.view(), Tensor::from_host<double>({1, 7}, ones));
    Tape tape;
    const Value g = tape.leaf(gate), u = tape.leaf(up);
    const Value y = swiglu(g, u);
    tape.backward(y, up);
    const std::vector<double> slope = test_support::doubles(tape.gradient(g));
    EXPECT_EQ(kernels(Device::cpu).count_nonfinite(y.data), 0);
    EXPECT_EQ(kernels(Device::cpu).count_nonfinite(tape.gradient(g)), 0);
    EXPECT_EQ(slope.front(), 0);
    EXPECT_EQ(slope.back(), 1);
    EXPECT_EQ(test_support::doubles(tape.gradient(u)), test_support::doubles(y.data));
  }
}

TEST(SwigluOp, RefusesOtherShapesTypesAndOneValueTwice) {
  Tape tape;
  const Value x = tape.leaf(random_tensor({2, 3}, 1));
  expect_refusal(core::ExitCode::kInternal, "swiglu: expected up.data [2, 3], got [2, 4]", [&] {
    swiglu(x, tape.leaf(random_tensor({2, 4}, 1)));
  });
  expect_refusal(core::ExitCode::kInternal, "swiglu: expected up.data of float64, got bfloat16",
                 [&] {
                   swiglu(x, tape.leaf(random_tensor({2, 3}, 1, DType::bf16)));
                 });
  expect_refusal(core::ExitCode::kInternal, "swiglu: expected two values", [&] { swiglu(x, x); });
}

}  // namespace
}  // namespace ag
