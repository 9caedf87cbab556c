// Softmax cross entropy against plain double loops.
#include <algorithm>

#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

std::vector<int32_t> targets_of(const Case& c) {
  std::vector<int32_t> targets(static_cast<size_t>(c.rows));
  for (size_t i = 0; i < targets.size(); ++i) {
    targets[i] = static_cast<int32_t>(static_cast<int64_t>(i * 7919) % c.cols);
  }
  targets[0] = static_cast<int32_t>(c.cols - 1);
  return targets;
}

double exact_lse(const Matrix& logits, int64_t i) {
  double maximum = logits.at(i, 0), sum = 0;
  for (int64_t j = 0; j < logits.cols(); ++j) maximum = std::max(maximum, logits.at(i, j));
  for (int64_t j = 0; j < logits.cols(); ++j) sum += std::exp(logits.at(i, j) - maximum);
  return maximum + std::log(sum);
}

// Relative error of the sum of exponentials, which is the absolute one of its logarithm: the
// arguments reach back by at most ~10 deviations of 4, where the terms no longer count.
double lse_error(const Matrix& logits) {
  return (sum_error(std::min<int64_t>(logits.cols(), 4096)) + 16) * rounding_unit(logits.dtype());
}

void check_loss(const Case& c, double offset) {
  Matrix logits = Matrix::random(wide_of(c.dtype), c.rows, c.cols, c.pad, 1, 4);
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) logits.set(i, j, logits.at(i, j) + offset);
  }
  const std::vector<int32_t> targets = targets_of(c);
  std::vector<double> lses;
  for (int64_t i = 0; i < c.rows; ++i) lses.push_back(exact_lse(logits, i));
  const Matrix loss_before = Matrix::output(DType::f64, c.rows, 1, c.pad, c.accumulate);
  const Matrix lse_before = Matrix::output(logits.dtype(), c.rows, 1, 0, false);
  same_for_all_threads([&](const Kernels& kernels) {
    Matrix loss = loss_before, lse = lse_before;
    kernels.softmax_loss(loss.view(c.accumulate), lse.view(), logits, view_of(targets));
    const auto exact = [&](int64_t i) { return lses[static_cast<size_t>(i)]; };
    expect_matches(lse, lse_before, false, [&](int64_t i, int64_t) {
      return Expected{exact(i), lse_error(logits)};
    });
    expect_matches(loss, loss_before, c.accumulate, [&](int64_t i, int64_t) {
      return Expected{exact(i) - logits.at(i, targets[static_cast<size_t>(i)]),
                      lse_error(logits) + 4 * rounding_unit(DType::f64) * std::abs(exact(i))};
    });
    return std::vector{loss, lse};
  });
}

TEST(SoftmaxLoss, Loss) {
  for_each_case([](const Case& c) { check_loss(c, 0); });
}

TEST(SoftmaxLoss, LargeLogitsDoNotOverflow) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    check_loss({dtype, 3, 1000, 0, false}, 8192);
    check_loss({dtype, 3, 1000, 0, false}, -8192);
  }
}

TEST(SoftmaxLoss, LargeVocabulary) {
  check_loss({DType::f32, 3, 150001, 0, false}, 0);
  check_loss({DType::f64, 3, 150001, 0, false}, 0);
}

TEST(SoftmaxLoss, SayNaNWhenALogitIs) {
  for_each_level([](const Kernels& kernels) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      Matrix logits = Matrix::random(dtype, 1, 100, 0, 1), loss(DType::f64, 1, 1), lse(dtype, 1, 1);
      logits.set(0, 50, kNaN);
      const std::vector<int32_t> target{3};
      kernels.softmax_loss(loss.view(), lse.view(), logits, view_of(target));
      EXPECT_TRUE(std::isnan(loss.at(0, 0)));
    }
  });
}

TEST(SoftmaxGradient, ProbabilityMinusTarget) {
  constexpr double kScale = 0.125;
  for_each_case([](const Case& c) {
    const Matrix logits = Matrix::random(wide_of(c.dtype), c.rows, c.cols, c.pad, 1, 4);
    const std::vector<int32_t> targets = targets_of(c);
    Matrix lse(logits.dtype(), c.rows, 1);
    for (int64_t i = 0; i < c.rows; ++i) lse.set(i, 0, exact_lse(logits, i));
    const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, c.accumulate);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix gradient = before;
      kernels.softmax_gradient(gradient.view(c.accumulate), logits, lse, view_of(targets), kScale);
      expect_matches(gradient, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double argument = logits.at(i, j) - lse.at(i, 0), p = std::exp(argument);
        const bool target = targets[static_cast<size_t>(i)] == j;
        const double unit = rounding_unit(logits.dtype());
        // The difference is rounded, and moves the exponential by as much.
        const double error = (8 + 2 * std::abs(argument)) * unit * p + (target ? 2 * unit : 0);
        return Expected{kScale * (p - (target ? 1 : 0)), kScale * error};
      });
      return std::vector{gradient};
    });
  });
}

}  // namespace
}  // namespace ag::test
