// Leading factors from a Gram matrix against those of a full SVD (dgesdd), on both sides of what
// svd_gram.cpp calls exact enough.
#include "model/svd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace model {
namespace {

using Matrix = std::vector<double>;

constexpr double kEps = std::numeric_limits<double>::epsilon() / 2;
constexpr int64_t kLong = 40, kShort = 24, kCount = 8;

struct Extents {
  int64_t rows, columns;
};

// a [n, k] diag(scale) b [k, m]
Matrix product(const Matrix& a, const Matrix& scale, const Matrix& b, int64_t n, int64_t m) {
  const auto k = static_cast<int64_t>(scale.size());
  Matrix out(static_cast<size_t>(n * m), 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t l = 0; l < k; ++l)
      for (int64_t j = 0; j < m; ++j)
        out[static_cast<size_t>(i * m + j)] += a[static_cast<size_t>(i * k + l)] *
                                               scale[static_cast<size_t>(l)] *
                                               b[static_cast<size_t>(l * m + j)];
  return out;
}

// A matrix with these singular values and random singular vectors.
Matrix with_spectrum(const Matrix& sigma, Extents e) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  Matrix x(static_cast<size_t>(e.rows * e.columns));
  for (double& value : x) value = normal(random);
  const Svd s = svd(x, e.rows, e.columns);
  return product(s.u, sigma, s.zt, e.rows, e.columns);
}

double worst_difference(const Matrix& a, const Matrix& b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// 1, q, q^2, ..., with `drop` between what is kept and what is not.
Matrix geometric(double q, double drop) {
  Matrix sigma;
  for (int64_t i = 0; i < kShort; ++i)
    sigma.push_back(std::pow(q, static_cast<double>(i)) * (i < kCount ? 1 : drop));
  return sigma;
}

class LeadingFactorsTest : public testing::TestWithParam<Extents> {};

TEST_P(LeadingFactorsTest, OfTheGramMatrixAreThoseOfTheSvd) {
  const Extents e = GetParam();
  const Matrix sigma = geometric(0.8, 0.5);
  const Matrix x = with_spectrum(sigma, e);
  const LeadingFactors gram = leading_factors(x, e.rows, e.columns, kCount);
  const LeadingFactors full = leading_factors_of_svd(x, e.rows, e.columns, kCount);
  ASSERT_TRUE(gram.from_gram);
  ASSERT_FALSE(full.from_gram);
  // Vectors turn by eta over the gap to the next lambda, here at least 1 - 0.8^2 of lambda itself;
  // dgesdd's by k eps over the gap of the sigmas. Both bounds are for the worst of rounding.
  const double lambda = std::pow(0.8, 2.0 * (kCount - 1)), eta = kShort * kEps;
  const double turn = eta / ((1 - 0.64) * lambda) + eta / (0.2 * std::sqrt(lambda));
  EXPECT_LE(worst_difference(gram.down, full.down), turn);
  EXPECT_LE(worst_difference(gram.up, full.up), turn);
  EXPECT_NEAR(gram.norm_squared, full.norm_squared, kShort * kEps * full.norm_squared);
  EXPECT_NEAR(gram.lost_squared, full.lost_squared, kCount * eta);
  EXPECT_GT(full.lost_squared, 1e-3);
  ASSERT_EQ(gram.sigma.size(), sigma.size());
  for (size_t i = 0; i < sigma.size(); ++i)
    EXPECT_NEAR(gram.sigma[i], sigma[i], eta / sigma[i]) << i;
  Matrix lost = x;
  const Matrix kept = product(gram.up, Matrix(kCount, 1), gram.down, e.rows, e.columns);
  double squared = 0;
  for (size_t i = 0; i < x.size(); ++i) squared += (x[i] - kept[i]) * (x[i] - kept[i]);
  EXPECT_NEAR(squared, full.lost_squared, kCount * eta) << "the product itself";
}

TEST_P(LeadingFactorsTest, AreOfTheSvdWhereTheGramMatrixIsNotExactEnough) {
  const Extents e = GetParam();
  const auto expect_svd = [&](const Matrix& sigma, int64_t count, const char* why) {
    const Matrix x = with_spectrum(sigma, e);
    const LeadingFactors f = leading_factors(x, e.rows, e.columns, count);
    const LeadingFactors full = leading_factors_of_svd(x, e.rows, e.columns, count);
    EXPECT_FALSE(f.from_gram) << why;
    EXPECT_EQ(f.up, full.up) << why;
    EXPECT_EQ(f.down, full.down) << why;
    EXPECT_EQ(f.lost_squared, full.lost_squared) << why;
  };
  expect_svd(geometric(0.8, 0.5), kShort, "nothing is cut off");
  expect_svd(geometric(0.1, 0.5), kCount, "what is kept falls too far");
  expect_svd(geometric(0.8, 1e-7), kCount, "next to nothing is lost");
  expect_svd(geometric(0.8, 0), kCount, "nothing is lost");
  expect_svd(Matrix(kShort, 0), kCount, "all zeros");
}

INSTANTIATE_TEST_SUITE_P(BothSides, LeadingFactorsTest,
                         testing::Values(Extents{kLong, kShort}, Extents{kShort, kLong},
                                         Extents{kShort, kShort}));

}  // namespace
}  // namespace model
