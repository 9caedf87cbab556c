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

struct Row {
  double maximum = 0, sum = 0;  // of exp(logit - maximum)
  double lse() const { return maximum + std::log(sum); }
};

Row exact_row(const Matrix& logits, int64_t i) {
  Row row{logits.at(i, 0), 0};
  for (int64_t j = 0; j < logits.cols(); ++j) row.maximum = std::max(row.maximum, logits.at(i, j));
  for (int64_t j = 0; j < logits.cols(); ++j) row.sum += std::exp(logits.at(i, j) - row.maximum);
  return row;
}

// Relative error of the sum of exponentials, which is the absolute one of its logarithm: the
// arguments reach back by at most ~10 deviations of 4, where the terms no longer count.
double lse_error(const Matrix& logits) {
  return (sum_error(std::min<int64_t>(logits.cols(), 4096)) + 16) * rounding_unit(logits.dtype());
}

// The element type of the gradient; logits are wide.
void check_cross_entropy(const Case& c, double offset, bool in_place) {
  constexpr double kScale = 0.125;
  Matrix logits = Matrix::random(wide_of(c.dtype), c.rows, c.cols, c.pad, 1, 4);
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) logits.set(i, j, logits.at(i, j) + offset);
  }
  const std::vector<int32_t> targets = targets_of(c);
  std::vector<Row> rows;
  for (int64_t i = 0; i < c.rows; ++i) rows.push_back(exact_row(logits, i));
  const Matrix loss_before = Matrix::output(DType::f64, c.rows, 1, c.pad, false);
  const int64_t distance =
      (c.cols + c.pad) * size_of(logits.dtype()) / size_of(c.dtype);  // of the rows of dlogits
  const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, distance - c.cols, false);
  same_for_all_threads([&](const Kernels& kernels) {
    Matrix loss = loss_before, gradient = before, z = logits;
    View dz = gradient.view();
    if (in_place) dz.data = z.view().data;
    kernels.cross_entropy(loss.view(), dz, z, view_of(targets), kScale);
    if (in_place) {
      for (int64_t i = 0; i < c.rows; ++i)
        std::memcpy(gradient.view().row<std::byte>(i * size_of(c.dtype)),
                    dz.row<std::byte>(i * size_of(c.dtype)),
                    static_cast<size_t>(c.cols * size_of(c.dtype)));
    }
    const auto at = [&](int64_t i) { return rows[static_cast<size_t>(i)]; };
    expect_matches(loss, loss_before, false, [&](int64_t i, int64_t) {
      return Expected{at(i).lse() - logits.at(i, targets[static_cast<size_t>(i)]),
                      lse_error(logits) + 4 * rounding_unit(DType::f64) * std::abs(at(i).lse())};
    });
    expect_matches(gradient, before, false, [&](int64_t i, int64_t j) {
      const double argument = logits.at(i, j) - at(i).maximum;
      const double p = std::exp(argument) / at(i).sum;
      const bool target = targets[static_cast<size_t>(i)] == j;
      const double unit = rounding_unit(logits.dtype());
      // The difference is rounded, and moves the exponential by as much; so does the sum.
      const double error =
          (8 + 2 * std::abs(argument)) * unit * p + lse_error(logits) * p + (target ? 2 * unit : 0);
      return Expected{kScale * (p - (target ? 1 : 0)), kScale * error};
    });
    return std::vector{loss, gradient};
  });
}

TEST(CrossEntropy, LossAndGradient) {
  for_each_case([](const Case& c) {
    if (c.accumulate) return;
    check_cross_entropy(c, 0, false);
    check_cross_entropy(c, 0, true);
  });
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    check_cross_entropy({dtype, 3, 1000, 0, false}, 8192, true);
    check_cross_entropy({dtype, 3, 1000, 0, false}, -8192, false);
  }
}

TEST(CrossEntropy, LargeVocabulary) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    check_cross_entropy({dtype, 3, 150001, 0, false}, 0, true);
}

TEST(CrossEntropy, LossIsTheSameWithoutGradient) {
  for_each_level([](const Kernels& kernels) {
    Matrix logits = Matrix::random(DType::f32, 2, 100, 3, 1), gradient(DType::bf16, 2, 100);
    Matrix with(DType::f64, 2, 1), without(DType::f64, 2, 1);
    const std::vector<int32_t> targets{3, 99};
    kernels.cross_entropy(without.view(), {}, logits, view_of(targets), 1);
    kernels.cross_entropy(with.view(), gradient.view(), logits, view_of(targets), 1);
    EXPECT_EQ(with.bytes(), without.bytes());
  });
}

// At the ends of vectors and of parts, and in what is left over.
TEST(CrossEntropy, SayNaNWhenALogitIs) {
  for_each_level([](const Kernels& kernels) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const int64_t place : {0, 50, 96, 99}) {
        Matrix logits = Matrix::random(dtype, 1, 100, 0, 1), loss(DType::f64, 1, 1),
               gradient(dtype, 1, 100);
        logits.set(0, place, kNaN);
        const std::vector<int32_t> target{3};
        kernels.cross_entropy(loss.view(), gradient.view(), logits, view_of(target), 1);
        EXPECT_TRUE(std::isnan(loss.at(0, 0))) << place;
        EXPECT_TRUE(std::isnan(gradient.at(0, 20))) << place;
      }
    }
  });
}

}  // namespace
}  // namespace ag::test
