// checkpoint as an op: the gradient check goes through the recomputation.
#include "autograd/checkpoint.h"

#include "tests/support/gradcheck.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::OpInputs;

TEST(CheckpointOp, GradientMatchesFiniteDifferences) {
  const auto block = [](OpInputs& in) {
    const std::vector<Param*> p = in.p;
    return checkpoint(in.x[0], [p](const Value& x) {
      const Value h = rms_norm(x, *p[0], 1e-5, DType::f64);
      return linear_residual(swiglu(linear(h, *p[1], nullptr), h), *p[2], nullptr, x);
    });
  };
  for (const Shape& s : {Shape{1, 2}, Shape{3, 5}})
    EXPECT_TRUE(check_grad(block, {.x = {s}, .p = {{s[1]}, {s[1], s[1]}, {s[1], s[1]}}}));
}

TEST(CheckpointOp, NestedGradientMatchesFiniteDifferences) {
  const auto nested = [](OpInputs& in) {
    const std::vector<Param*> p = in.p;
    return checkpoint(in.x[0], [p](const Value& x) {
      const Value inner = checkpoint(x, [p](const Value& y) { return linear(y, *p[0], nullptr); });
      return linear_residual(inner, *p[1], nullptr, x);
    });
  };
  EXPECT_TRUE(check_grad(nested, {.x = {{2, 3}}, .p = {{3, 3}, {3, 3}}}));
}

// The input reaches nothing inside, but has a second consumer outside.
TEST(CheckpointOp, FunctionThatIgnoresItsInput) {
  const auto op = [](OpInputs& in) {
    Param* p = in.p[0];
    const Value y = checkpoint(in.x[0], [p](const Value& x) {
      return linear(x.tape->constant(test_support::random_tensor({2, 3}, 5)), *p, nullptr);
    });
    return add(y, in.x[0]);
  };
  EXPECT_TRUE(check_grad(op, {.x = {{2, 3}}, .p = {{3, 3}}}));
}

}  // namespace
}  // namespace ag
