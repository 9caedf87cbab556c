// RMSNorm and rotary embedding against plain double loops.
#include <algorithm>
#include <numeric>

#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

constexpr double kEps = 1e-5;

struct NormInputs {
  explicit NormInputs(const Case& c)
      : x(Matrix::random(wide_of(c.dtype), c.rows, c.cols, c.pad, 1, 3)),
        w(Matrix::random(wide_of(c.dtype), 1, c.cols, 0, 2)),
        dy(Matrix::random(c.dtype, c.rows, c.cols, c.pad, 3)),
        rstd(wide_of(c.dtype), c.rows, 1) {
    for (int64_t i = 0; i < c.rows; ++i) rstd.set(i, 0, exact_rstd(i));
  }
  double exact_rstd(int64_t i) const {
    double squares = 0;
    for (int64_t j = 0; j < x.cols(); ++j) squares += x.at(i, j) * x.at(i, j);
    return 1 / std::sqrt(squares / static_cast<double>(x.cols()) + kEps);
  }

  Matrix x, w, dy, rstd;
};

TEST(RmsNorm, Forward) {
  for_each_case([](const Case& c) {
    const NormInputs in(c);
    const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, c.accumulate);
    const double unit = rounding_unit(wide_of(c.dtype));
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix y = before, rstd = Matrix::output(wide_of(c.dtype), c.rows, 1, 0, false);
      const Matrix unset = rstd;
      kernels.rms_norm_forward(y.view(c.accumulate), rstd.view(), in.x, in.w, kEps);
      std::vector<double> exact;
      for (int64_t i = 0; i < c.rows; ++i) exact.push_back(in.exact_rstd(i));
      expect_matches(rstd, unset, false, [&](int64_t i, int64_t) {
        const double value = exact[static_cast<size_t>(i)];
        return Expected{value, sum_error(c.cols) * unit * value};
      });
      expect_matches(y, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double value = in.x.at(i, j) * exact[static_cast<size_t>(i)] * in.w.at(0, j);
        return Expected{value, (sum_error(c.cols) + 4) * unit * std::abs(value)};
      });
      return std::vector{y, rstd};
    });
  });
}

TEST(RmsNorm, BackwardOfInput) {
  for_each_case([](const Case& c) {
    const NormInputs in(c);
    const Matrix before = Matrix::output(wide_of(c.dtype), c.rows, c.cols, c.pad, c.accumulate);
    const double unit = rounding_unit(wide_of(c.dtype));
    std::vector<double> dots, magnitudes;
    for (int64_t i = 0; i < c.rows; ++i) {
      double dot = 0, magnitude = 0;
      for (int64_t j = 0; j < c.cols; ++j) {
        const double term = in.dy.at(i, j) * in.w.at(0, j) * in.x.at(i, j);
        dot += term;
        magnitude += std::abs(term);
      }
      dots.push_back(dot / static_cast<double>(c.cols));
      magnitudes.push_back(magnitude / static_cast<double>(c.cols));
    }
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix dx = before;
      kernels.rms_norm_backward(dx.view(c.accumulate), {}, in.dy, in.x, in.w, in.rstd);
      expect_matches(dx, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double r = in.rstd.at(i, 0), direct = r * in.dy.at(i, j) * in.w.at(0, j);
        const double along = in.x.at(i, j) * r * r * r;
        const double error = 6 * std::abs(direct) + (sum_error(c.cols) + 8) * std::abs(along) *
                                                        magnitudes[static_cast<size_t>(i)];
        return Expected{direct - along * dots[static_cast<size_t>(i)], error * unit};
      });
      return std::vector{dx};
    });
  });
}

TEST(RmsNorm, BackwardOfWeight) {
  for_each_case([](const Case& c) {
    const NormInputs in(c);
    if (c.accumulate) return;
    const int64_t blocks = (c.rows + kNormBlock - 1) / kNormBlock;
    const Matrix before = Matrix::output(wide_of(c.dtype), blocks, c.cols, c.pad, false);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix dw = before;
      kernels.rms_norm_backward({}, dw.view(), in.dy, in.x, in.w, in.rstd);
      expect_matches(dw, before, false, [&](int64_t block, int64_t j) {
        double sum = 0, magnitude = 0;
        const int64_t begin = block * kNormBlock, end = std::min(begin + kNormBlock, c.rows);
        for (int64_t i = begin; i < end; ++i) {
          const double term = in.dy.at(i, j) * in.x.at(i, j) * in.rstd.at(i, 0);
          sum += term;
          magnitude += std::abs(term);
        }
        return Expected{sum, (sum_error(end - begin) + 2) * rounding_unit(dw.dtype()) * magnitude};
      });
      return std::vector{dw};
    });
  });
}

TEST(RmsNorm, BothGradientsAtOnceAreTheSameBits) {
  for_each_case([](const Case& c) {
    const NormInputs in(c);
    const int64_t blocks = (c.rows + kNormBlock - 1) / kNormBlock;
    const Matrix dx_before = Matrix::output(wide_of(c.dtype), c.rows, c.cols, 0, c.accumulate);
    for_each_level([&](const Kernels& kernels) {
      Matrix dx[2] = {dx_before, dx_before};
      Matrix dw[2] = {Matrix(wide_of(c.dtype), blocks, c.cols),
                      Matrix(wide_of(c.dtype), blocks, c.cols)};
      kernels.rms_norm_backward(dx[0].view(c.accumulate), {}, in.dy, in.x, in.w, in.rstd);
      kernels.rms_norm_backward({}, dw[0].view(), in.dy, in.x, in.w, in.rstd);
      kernels.rms_norm_backward(dx[1].view(c.accumulate), dw[1].view(), in.dy, in.x, in.w, in.rstd);
      EXPECT_EQ(dx[0].bytes(), dx[1].bytes());
      EXPECT_EQ(dw[0].bytes(), dw[1].bytes());
    });
  });
}

TEST(SumRows, Sums) {
  for_each_case([](const Case& c) {
    const Matrix x = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
    const Matrix before = Matrix::output(wide_of(c.dtype), 1, c.cols, 0, c.accumulate);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix y = before;
      kernels.sum_rows(y.view(c.accumulate), x);
      expect_matches(y, before, c.accumulate, [&](int64_t, int64_t j) {
        double sum = 0, magnitude = 0;
        for (int64_t i = 0; i < c.rows; ++i) {
          sum += x.at(i, j);
          magnitude += std::abs(x.at(i, j));
        }
        return Expected{sum, sum_error(c.rows) * rounding_unit(y.dtype()) * magnitude};
      });
      return std::vector{y};
    });
  });
}

// Heads of 8 columns: 3 pairs (i, i + 4) turn in place, the two other columns pass.
RopePlan half_split_plan(int64_t columns) {
  RopePlan plan{.columns = columns, .pairs = {}, .copies = {}};
  const auto width = static_cast<int32_t>(columns);
  int32_t head = 0;
  for (; head + 8 <= width; head += 8) {
    for (int32_t i = 0; i < 3; ++i)
      plan.pairs.push_back({head + i, head + i + 4, head + i, head + i + 4, i});
    plan.copies.push_back({head + 3, head + 3, 1});
    plan.copies.push_back({head + 7, head + 7, 1});
  }
  if (head < width) plan.copies.push_back({head, head, width - head});
  return plan;
}

// Columns go anywhere; two thirds of them turn.
RopePlan shuffled_plan(int64_t columns) {
  std::vector<int32_t> in(static_cast<size_t>(columns)), out;
  std::iota(in.begin(), in.end(), 0);
  out = in;
  std::mt19937 engine(5);
  std::shuffle(in.begin(), in.end(), engine);
  std::shuffle(out.begin(), out.end(), engine);
  RopePlan plan{.columns = columns, .pairs = {}, .copies = {}};
  size_t i = 0;
  for (; i + 2 < in.size(); i += 3) {
    plan.pairs.push_back({in[i], in[i + 1], out[i], out[i + 1], static_cast<int32_t>(i % 5)});
    plan.copies.push_back({in[i + 2], out[i + 2], 1});
  }
  for (; i < in.size(); ++i) plan.copies.push_back({in[i], out[i], 1});
  return plan;
}

constexpr int64_t kPositions = 40, kFrequencies = 5, kTokens = 33, kFirst = 4;

Matrix angles(DType dtype, double (*function)(double)) {
  Matrix table(wide_of(dtype), kPositions, kFrequencies);
  for (int64_t p = 0; p < kPositions; ++p) {
    for (int64_t f = 0; f < kFrequencies; ++f) {
      table.set(p, f, function(static_cast<double>(p) * std::pow(0.3, static_cast<double>(f))));
    }
  }
  return table;
}

// One row as the plan says, and the magnitudes of what was added; the inverse is the transpose.
void rotate_row(const RopePlan& plan, const Matrix& x, int64_t n, const Matrix& cosine,
                const Matrix& sine, bool inverse, std::vector<double>& y,
                std::vector<double>& magnitude) {
  const int64_t position = kFirst + n % kTokens;
  const auto put = [&](int32_t column, double first, double second) {
    y[static_cast<size_t>(column)] = first + second;
    magnitude[static_cast<size_t>(column)] = std::abs(first) + std::abs(second);
  };
  for (const RopePair& p : plan.pairs) {
    const double c = cosine.at(position, p.frequency), s = sine.at(position, p.frequency);
    if (inverse) {
      const double a = x.at(n, p.out_a), b = x.at(n, p.out_b);
      put(p.in_a, a * c, b * s);
      put(p.in_b, -a * s, b * c);
    } else {
      const double a = x.at(n, p.in_a), b = x.at(n, p.in_b);
      put(p.out_a, a * c, -b * s);
      put(p.out_b, b * c, a * s);
    }
  }
  for (const RopeCopy& copy : plan.copies) {
    for (int32_t i = 0; i < copy.count; ++i) {
      if (inverse) {
        put(copy.in + i, x.at(n, copy.out + i), 0);
      } else {
        put(copy.out + i, x.at(n, copy.in + i), 0);
      }
    }
  }
}

void check_rope(const Case& c, const RopePlan& plan, bool inverse) {
  SCOPED_TRACE(inverse ? "inverse" : "forward");
  const Matrix x = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
  const Matrix cosine = angles(c.dtype, std::cos), sine = angles(c.dtype, std::sin);
  const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, c.accumulate);
  same_for_all_threads([&](const Kernels& kernels) {
    Matrix y = before;
    kernels.rope(y.view(c.accumulate), x, plan, cosine, sine, kTokens, kFirst, inverse);
    std::vector<double> row(static_cast<size_t>(c.cols)), magnitude = row;
    expect_matches(y, before, c.accumulate, [&](int64_t i, int64_t j) {
      if (j == 0) rotate_row(plan, x, i, cosine, sine, inverse, row, magnitude);
      const auto column = static_cast<size_t>(j);
      return Expected{row[column], 3 * rounding_unit(wide_of(c.dtype)) * magnitude[column]};
    });
    return std::vector{y};
  });
}

TEST(Rope, FollowsThePlanAndItsTranspose) {
  for_each_case([](const Case& c) {
    for (const bool inverse : {false, true}) {
      check_rope(c, half_split_plan(c.cols), inverse);
      check_rope(c, shuffled_plan(c.cols), inverse);
    }
  });
}

// More columns, and more ways to turn, than are worked on at a time; the last vector is not whole.
TEST(Rope, WideRows) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const bool accumulate : {false, true}) {
      const Case c{dtype, 5, 2101, 3, accumulate};
      check_rope(c, half_split_plan(c.cols), false);
      check_rope(c, shuffled_plan(c.cols), true);
    }
  }
}

TEST(Rope, InverseUndoes) {
  const RopePlan plan = shuffled_plan(65);
  const Matrix cosine = angles(DType::f64, std::cos), sine = angles(DType::f64, std::sin);
  const Matrix x = Matrix::random(DType::f64, 70, 65, 0, 1);
  for_each_level([&](const Kernels& kernels) {
    Matrix y(DType::f64, 70, 65), back(DType::f64, 70, 65);
    kernels.rope(y.view(), x, plan, cosine, sine, kTokens, kFirst, false);
    kernels.rope(back.view(), y, plan, cosine, sine, kTokens, kFirst, true);
    for (int64_t i = 0; i < 70; ++i) {
      for (int64_t j = 0; j < 65; ++j) ASSERT_NEAR(back.at(i, j), x.at(i, j), 1e-14);
    }
  });
}

}  // namespace
}  // namespace ag::test
