// add: gradients, and the mutants that the gradient check itself must refuse.
#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_precision;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::random_tensor;

Value add_both(OpInputs& in) { return add(in.x[0], in.x[1]); }

TEST(AddOp, GradientMatchesFiniteDifferences) {
  for (const Shape& s : {Shape{1, 1}, Shape{2, 3}, Shape{3, 17}, Shape{1, 65}})
    EXPECT_TRUE(check_grad(add_both, {.x = {s, s}})) << to_string(s);
}

TEST(AddOp, OneValueTwiceGetsBothGradients) {
  EXPECT_TRUE(check_grad([](OpInputs& in) { return add(in.x[0], in.x[0]); }, {.x = {{3, 5}}}));
}

TEST(AddOp, LowPrecisionAgreesWithFloat64) {
  for (const DType type : {DType::f32, DType::bf16})
    EXPECT_TRUE(check_precision(add_both, {.x = {{65, 17}, {65, 17}}}, type, 1, 2));
}

TEST(AddOp, RefusesOtherShapesAndTypes) {
  Tape tape;
  const Value x = tape.leaf(random_tensor({2, 3}, 1));
  expect_refusal(core::ExitCode::kInternal, "add: expected y.data [2, 3], got [3, 2]", [&] {
    add(x, tape.leaf(random_tensor({3, 2}, 1)));
  });
  expect_refusal(core::ExitCode::kInternal, "add: expected y.data of float64, got float32", [&] {
    add(x, tape.leaf(random_tensor({2, 3}, 1, DType::f32)));
  });
}

// y = a * x elementwise with a = 2, in three versions: right, scaled, deaf to `accumulate`.
enum class Mutation { kNone, kScaled, kOverwrites, kAddsInPlace, kNan };
struct Twice {
  static constexpr const char* kName = "twice";
  Mutation mutation;
  Tensor x;
  void backward(Grads& g) const {
    std::vector<double> d = g.out().to_host<double>();
    for (double& v : d) v *= mutation == Mutation::kScaled ? 2 * 1.01 : 2;
    if (mutation == Mutation::kNan) d[0] = NAN;
    if (mutation == Mutation::kAddsInPlace) Tensor(x).copy_from(d.data());
    View dx = g.in(0);
    if (mutation == Mutation::kOverwrites) dx.accumulate = false;
    kernels(Device::cpu).cast(dx, Tensor::from_host<double>(g.out().shape(), d));
  }
};

testing::AssertionResult check_twice(Mutation mutation) {
  return check_grad(
      [mutation](OpInputs& in) {
        const Tensor& x = in.x[0].data;
        Tensor y = Tensor::like(x);
        for (const bool accumulate : {false, true}) kernels(y.device()).cast(y.view(accumulate), x);
        return in.tape.record(Twice{mutation, x}, {in.x[0]}, y);
      },
      {.x = {{3, 5}}});
}

TEST(GradCheck, RefusesWrongBackwards) {
  EXPECT_TRUE(check_twice(Mutation::kNone));
  EXPECT_FALSE(check_twice(Mutation::kScaled));
  EXPECT_FALSE(check_twice(Mutation::kOverwrites));
  EXPECT_FALSE(check_twice(Mutation::kAddsInPlace));
  EXPECT_FALSE(check_twice(Mutation::kNan));
}

}  // namespace
}  // namespace ag
