// AdamW and the reductions over flat buffers against plain double loops.
#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

struct AdamState {
  Matrix p, working, m, v, g;
};

AdamState random_state(DType wide, int64_t n, bool first_step) {
  AdamState s{Matrix::random(wide, 1, n, 0, 1), Matrix::output(DType::bf16, 1, n, 0, false),
              Matrix::random(wide, 1, n, 0, 2, 0.01), Matrix::random(wide, 1, n, 0, 3, 0.01),
              Matrix::random(wide, 1, n, 0, 4, 0.1)};
  for (int64_t j = 0; j < n; ++j) {
    s.v.set(0, j, first_step ? 0 : s.v.at(0, j) * s.v.at(0, j));
    if (first_step) s.m.set(0, j, 0);
  }
  return s;
}

std::vector<Matrix> check_step(const Kernels& kernels, DType wide, int64_t n,
                               const AdamWStep& step) {
  const AdamState before = random_state(wide, n, step.step == 1);
  AdamState s = before;
  const bool has_working = wide == DType::f32;
  kernels.adamw(s.p.view(), has_working ? s.working.view() : View{}, s.m.view(), s.v.view(), s.g,
                step);
  const double unit = rounding_unit(wide), t = static_cast<double>(step.step);
  const double first = 1 - std::pow(step.beta1, t), second = 1 - std::pow(step.beta2, t);
  for (int64_t j = 0; j < n; ++j) {
    const double g = before.g.at(0, j) * step.gradient_scale;
    const double old = step.beta1 * before.m.at(0, j), added = (1 - step.beta1) * g;
    const double v = step.beta2 * before.v.at(0, j) + (1 - step.beta2) * g * g;
    const double decayed = before.p.at(0, j) * (1 - step.learning_rate * step.weight_decay);
    const double size = step.learning_rate / first / (std::sqrt(v) / std::sqrt(second) + step.eps);
    const double magnitude = std::abs(old) + std::abs(added);
    EXPECT_NEAR(s.m.at(0, j), old + added, 5 * unit * magnitude);
    EXPECT_NEAR(s.v.at(0, j), v, 8 * unit * v);
    EXPECT_NEAR(s.p.at(0, j), decayed - size * (old + added),
                4 * unit * std::abs(decayed) + 20 * unit * size * magnitude);
    if (has_working) {
      EXPECT_EQ(s.working.at(0, j), static_cast<double>(bf16(static_cast<float>(s.p.at(0, j)))));
    }
  }
  EXPECT_TRUE(s.g.bytes() == before.g.bytes());
  if (!has_working) return {s.p, s.m, s.v};
  return {s.p, s.m, s.v, s.working};
}

TEST(AdamW, Step) {
  for (const DType wide : {DType::f32, DType::f64}) {
    for (const int64_t n : {1, 2, 3, 17, 64, 65, 1000, 40000}) {
      for (const int64_t step : {1, 2, 10000}) {
        const AdamWStep adamw{.learning_rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .weight_decay = 0.1,
                              .gradient_scale = 0.7,
                              .step = step};
        SCOPED_TRACE(std::string(name_of(wide)) + " n " + std::to_string(n) + " step " +
                     std::to_string(step));
        same_for_all_threads(
            [&](const Kernels& kernels) { return check_step(kernels, wide, n, adamw); });
      }
    }
  }
}

// One step from nothing is the decay and the learning rate times the sign of the gradient.
TEST(AdamW, FirstStepIsTheSignOfTheGradient) {
  for_each_level([](const Kernels& kernels) {
    AdamState s = random_state(DType::f64, 4, true);
    for (int64_t j = 0; j < 4; ++j) {
      s.p.set(0, j, 2);
      s.g.set(0, j, j < 2 ? 3 : -5);
    }
    kernels.adamw(s.p.view(), View{}, s.m.view(), s.v.view(), s.g,
                  {.learning_rate = 0.5,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 0,
                   .weight_decay = 0.25,
                   .gradient_scale = 1,
                   .step = 1});
    for (int64_t j = 0; j < 4; ++j) {
      EXPECT_NEAR(s.p.at(0, j), 2 * (1 - 0.125) + (j < 2 ? -0.5 : 0.5), 1e-14);
    }
  });
}

void check_sum_squares(const Case& c) {
  const Matrix x = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
  double exact = 0;
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) exact += x.at(i, j) * x.at(i, j);
  }
  same_for_all_threads([&](const Kernels& kernels) {
    Matrix sum(DType::f64, 1, 1);
    sum.set(0, 0, kernels.sum_squares(x));
    // The reference rounds as often as the kernel.
    EXPECT_NEAR(sum.at(0, 0), exact,
                2 * sum_error(c.rows * c.cols) * rounding_unit(DType::f64) * exact);
    return std::vector{sum};
  });
}

TEST(SumSquares, Sums) {
  for_each_case(check_sum_squares);
  // More blocks than groups of blocks.
  check_sum_squares({DType::f32, 1, 1200001, 0, false});
}

TEST(SumSquares, OfNothingIsZero) {
  for_each_level([](const Kernels& kernels) {
    EXPECT_EQ(kernels.sum_squares(Matrix(DType::f32, 1, 0)), 0);
    EXPECT_EQ(kernels.sum_squares(Matrix(DType::f32, 0, 3)), 0);
  });
}

TEST(CountNonfinite, CountsNaNAndInfinity) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for_each_case([](const Case& c) {
    Matrix x = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
    int64_t expected = 0;
    const double values[] = {kNaN, kInfinity, -kInfinity, 3e38, -1e-40, -kNaN};
    int64_t next = 0;
    for (int64_t i = 0; i < c.rows * c.cols; i += 37) {
      const double value = values[next++ % 6];
      x.set(i / c.cols, i % c.cols, value);
      expected += std::isfinite(value) ? 0 : 1;
    }
    for_each_level(
        [&](const Kernels& kernels) { EXPECT_EQ(kernels.count_nonfinite(x), expected); });
  });
}

}  // namespace
}  // namespace ag::test
