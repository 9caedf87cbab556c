// Matrix products against plain double loops.
#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

struct Product {
  DType input, output;
  int64_t m, n, k, pad;
  bool transpose_a, transpose_b, accumulate;
};

Matrix operand(const Product& p, bool transpose, int64_t rows, int64_t cols, unsigned seed) {
  return transpose ? Matrix::random(p.input, cols, rows, p.pad, seed)
                   : Matrix::random(p.input, rows, cols, p.pad, seed);
}

std::string to_string(const Product& p) {
  return std::string(name_of(p.input)) + " -> " + std::string(name_of(p.output)) + " " +
         std::to_string(p.m) + " x " + std::to_string(p.k) + " x " + std::to_string(p.n) + " pad " +
         std::to_string(p.pad) + " transposes " + std::to_string(p.transpose_a) +
         std::to_string(p.transpose_b) + " accumulate " + std::to_string(p.accumulate);
}

// op(x) as doubles, row-major.
std::vector<double> decoded(const Matrix& x, bool transpose) {
  std::vector<double> values;
  const int64_t rows = transpose ? x.cols() : x.rows(), cols = transpose ? x.rows() : x.cols();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) values.push_back(transpose ? x.at(j, i) : x.at(i, j));
  }
  return values;
}

// Every element of the product, with the sum of the magnitudes as error.
std::vector<Expected> multiplied(const Product& p, const Matrix& a, const Matrix& b) {
  const std::vector<double> left = decoded(a, p.transpose_a), right = decoded(b, p.transpose_b);
  std::vector<Expected> c(static_cast<size_t>(p.m * p.n), Expected{0, 0});
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t l = 0; l < p.k; ++l) {
      for (int64_t j = 0; j < p.n; ++j) {
        const double term =
            left[static_cast<size_t>(i * p.k + l)] * right[static_cast<size_t>(l * p.n + j)];
        Expected& element = c[static_cast<size_t>(i * p.n + j)];
        element.value += term;
        element.error += std::abs(term);
      }
    }
  }
  return c;
}

// Every level: amx has products of its own.
template <class F>
void for_each_gemm(F body) {
  for_each_level([&](const Kernels& kernels) { body(kernels.gemm); });
  if (active_isa() < Isa::amx) return;
  SCOPED_TRACE("isa amx");
  body(cpu_kernels(Isa::amx).gemm);
}

// At every level; the same bits when repeated.
void check(const Product& p) {
  SCOPED_TRACE(to_string(p));
  const Matrix a = operand(p, p.transpose_a, p.m, p.k, 1);
  const Matrix b = operand(p, p.transpose_b, p.k, p.n, 2);
  const Matrix before = Matrix::output(p.output, p.m, p.n, p.pad, p.accumulate);
  const std::vector<Expected> exact = multiplied(p, a, b);
  const double unit = sum_error(p.k + 1) * rounding_unit(wide_of(p.output));
  for_each_gemm([&](auto gemm) {
    Matrix c = before, again = before;
    gemm(c.view(p.accumulate), a, p.transpose_a, b, p.transpose_b);
    gemm(again.view(p.accumulate), a, p.transpose_a, b, p.transpose_b);
    EXPECT_TRUE(c.bytes() == again.bytes()) << "two runs differ";
    expect_matches(c, before, p.accumulate, [&](int64_t i, int64_t j) {
      const Expected& element = exact[static_cast<size_t>(i * p.n + j)];
      const double old = p.accumulate ? std::abs(before.at(i, j)) : 0;
      return Expected{element.value, unit * (element.error + old)};
    });
  });
}

void check_all(DType input, DType output) {
  constexpr int64_t kShapes[][3] = {{1, 1, 1},     {1, 17, 64},   {2, 3, 65},
                                    {17, 1, 3},    {64, 64, 64},  {65, 17, 2},
                                    {3, 1000, 17}, {64, 96, 160}, {65, 130, 1000}};
  for (const auto& shape : kShapes) {
    for (int flags = 0; flags < 16; ++flags) {
      check({input, output, shape[0], shape[1], shape[2], (flags & 8) != 0 ? 7 : 0,
             (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0});
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, Float32) { check_all(DType::f32, DType::f32); }
TEST(Gemm, Float64) { check_all(DType::f64, DType::f64); }
TEST(Gemm, Bfloat16) { check_all(DType::bf16, DType::bf16); }
TEST(Gemm, Bfloat16ToFloat32) { check_all(DType::bf16, DType::f32); }

TEST(Gemm, SumOverNothingIsZeroOrLeavesTheTarget) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const bool accumulate : {false, true}) {
      check({dtype, dtype, 3, 5, 0, 2, false, false, accumulate});
    }
  }
}

TEST(Gemm, EmptyResultIsNoError) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    check({dtype, dtype, 0, 5, 4, 0, false, true, false});
    check({dtype, dtype, 5, 0, 4, 0, true, false, false});
  }
}

// A primitive that was built for fewer or more threads may not be met again.
TEST(Gemm, FollowsTheNumberOfThreads) {
  const int before = threads();
  for (const int count : {2, 1, 4}) {
    set_threads(count);
    check({DType::bf16, DType::f32, 96, 64, 128, 0, true, false, true});
    check({DType::f32, DType::f32, 96, 64, 128, 0, true, false, true});
  }
  set_threads(before);
}

TEST(Gemm, PropagatesNaN) {
  for_each_gemm([](auto gemm) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      Matrix a = Matrix::random(dtype, 32, 64, 0, 1);
      a.set(3, 5, kNaN);
      const Matrix b = Matrix::random(dtype, 64, 32, 0, 2);
      Matrix c(dtype, 32, 32);
      gemm(c.view(), a, false, b, false);
      EXPECT_TRUE(std::isnan(c.at(3, 0)));
      EXPECT_FALSE(std::isnan(c.at(4, 0)));
    }
  });
}

}  // namespace
}  // namespace ag::test
