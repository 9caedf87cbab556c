// cast, add_bias, embedding and swiglu against plain double loops.
#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

// Arithmetic of a kernel with two types is in double when either is.
double pair_unit(DType a, DType b) {
  return rounding_unit(a == DType::f64 || b == DType::f64 ? DType::f64 : DType::f32);
}

TEST(Zero, EveryElementAndNoOther) {
  for_each_case([](const Case& c) {
    if (c.accumulate) return;
    const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, false);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix y = before;
      kernels.zero(y.view());
      expect_matches(y, before, false, [](int64_t, int64_t) { return Expected{0, 0}; });
      return std::vector{y};
    });
  });
}

// More than the pieces that the threads share.
TEST(Zero, Large) {
  Matrix x = Matrix::random(DType::f32, 3, 1 << 20, 0, 1);
  cpu_kernels(active_isa()).zero(x.view());
  EXPECT_TRUE(x.bytes() == std::vector<std::byte>(x.bytes().size()));
}

TEST(Cast, EveryPairOfTypes) {
  for_each_case([](const Case& c) {
    for (const DType target : kFloats) {
      const Matrix x = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
      const Matrix before = Matrix::output(target, c.rows, c.cols, c.pad, c.accumulate);
      same_for_all_threads([&](const Kernels& kernels) {
        Matrix y = before;
        kernels.cast(y.view(c.accumulate), x);
        expect_matches(y, before, c.accumulate, [&](int64_t i, int64_t j) {
          // To bf16 from double there are two roundings: to float, then to bf16.
          return Expected{x.at(i, j), rounding_unit(DType::f64) * std::abs(x.at(i, j))};
        });
        return std::vector{y};
      });
    }
  });
}

TEST(Cast, KeepsNaNAndInfinity) {
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for_each_level([](const Kernels& kernels) {
    for (const DType from : kFloats) {
      for (const DType to : kFloats) {
        Matrix x(from, 1, 3), y(to, 1, 3);
        x.set(0, 0, kNaN);
        x.set(0, 1, kInfinity);
        x.set(0, 2, -kInfinity);
        kernels.cast(y.view(), x);
        EXPECT_TRUE(std::isnan(y.at(0, 0)));
        EXPECT_EQ(y.at(0, 1), kInfinity);
        EXPECT_EQ(y.at(0, 2), -kInfinity);
      }
    }
  });
}

TEST(AddBias, EveryPairOfTypes) {
  for_each_case([](const Case& c) {
    for (const DType target : kFloats) {
      const Matrix bias = Matrix::random(c.dtype, 1, c.cols, c.pad, 1);
      const Matrix before = Matrix::random(target, c.rows, c.cols, c.pad, 2);
      same_for_all_threads([&](const Kernels& kernels) {
        Matrix y = before;
        kernels.add_bias(y.view(), bias);
        expect_matches(y, before, true, [&](int64_t, int64_t j) {
          return Expected{bias.at(0, j), 0};
        });
        return std::vector{y};
      });
    }
  });
}

constexpr int64_t kVocabulary = 7;

// Repeats tokens, leaves one out.
std::vector<int32_t> tokens_of(int64_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 5 % (kVocabulary - 1));
  }
  return tokens;
}

TEST(Embedding, ForwardTakesRows) {
  for_each_case([](const Case& c) {
    const std::vector<int32_t> tokens = tokens_of(c.rows);
    for (const DType target : kFloats) {
      const Matrix table = Matrix::random(c.dtype, kVocabulary, c.cols, c.pad, 1);
      const Matrix before = Matrix::output(target, c.rows, c.cols, c.pad, c.accumulate);
      same_for_all_threads([&](const Kernels& kernels) {
        Matrix y = before;
        kernels.embedding_forward(y.view(c.accumulate), table, view_of(tokens));
        expect_matches(y, before, c.accumulate, [&](int64_t i, int64_t j) {
          const double x = table.at(tokens[static_cast<size_t>(i)], j);
          return Expected{x, pair_unit(c.dtype, target) * std::abs(x)};
        });
        return std::vector{y};
      });
    }
  });
}

TEST(Embedding, BackwardAddsByToken) {
  for_each_case([](const Case& c) {
    const std::vector<int32_t> tokens = tokens_of(c.rows);
    const Matrix dy = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1);
    const Matrix before = Matrix::random(wide_of(c.dtype), kVocabulary, c.cols, c.pad, 2);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix dtable = before;
      kernels.embedding_backward(dtable.view(true), dy, view_of(tokens));
      expect_matches(dtable, before, true, [&](int64_t v, int64_t j) {
        double sum = 0, magnitude = std::abs(before.at(v, j));
        for (int64_t n = 0; n < c.rows; ++n) {
          if (tokens[static_cast<size_t>(n)] != v) continue;
          sum += dy.at(n, j);
          magnitude += std::abs(dy.at(n, j));
        }
        return Expected{sum, sum_error(c.rows) * rounding_unit(dtable.dtype()) * magnitude};
      });
      return std::vector{dtable};
    });
  });
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Roundings of the sigmoid (its exponential is good to 4 units, its argument moves it by |x| units)
// and of the products around it.
double swiglu_error(DType dtype, double gate) {
  return (12 + 2 * std::abs(gate)) * rounding_unit(wide_of(dtype));
}

TEST(Swiglu, Forward) {
  for_each_case([](const Case& c) {
    const Matrix gate = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1, 4);
    const Matrix up = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 2);
    const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, c.accumulate);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix y = before;
      kernels.swiglu_forward(y.view(c.accumulate), gate, up);
      expect_matches(y, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double g = gate.at(i, j), value = g * sigmoid(g) * up.at(i, j);
        return Expected{value, swiglu_error(c.dtype, g) * std::abs(value)};
      });
      return std::vector{y};
    });
  });
}

TEST(Swiglu, Backward) {
  for_each_case([](const Case& c) {
    const Matrix gate = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 1, 4);
    const Matrix up = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 2);
    const Matrix dy = Matrix::random(c.dtype, c.rows, c.cols, c.pad, 3);
    const Matrix before = Matrix::output(c.dtype, c.rows, c.cols, c.pad, c.accumulate);
    same_for_all_threads([&](const Kernels& kernels) {
      Matrix dgate = before, dup = before, only_gate = before, only_up = before;
      kernels.swiglu_backward(dgate.view(c.accumulate), dup.view(c.accumulate), dy, gate, up);
      kernels.swiglu_backward(only_gate.view(c.accumulate), View{}, dy, gate, up);
      kernels.swiglu_backward(View{}, only_up.view(c.accumulate), dy, gate, up);
      EXPECT_TRUE(dgate.bytes() == only_gate.bytes());
      EXPECT_TRUE(dup.bytes() == only_up.bytes());
      expect_matches(dgate, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double g = gate.at(i, j), s = sigmoid(g), scale = dy.at(i, j) * up.at(i, j) * s;
        // 1 + g (1 - s) cancels: its error is that of its terms.
        const double magnitude = std::abs(scale) * (1 + std::abs(g) * (1 - s) + std::abs(g) * s);
        return Expected{scale * (1 + g * (1 - s)), swiglu_error(c.dtype, g) * magnitude};
      });
      expect_matches(dup, before, c.accumulate, [&](int64_t i, int64_t j) {
        const double g = gate.at(i, j), value = dy.at(i, j) * g * sigmoid(g);
        return Expected{value, swiglu_error(c.dtype, g) * std::abs(value)};
      });
      return std::vector{dgate, dup};
    });
  });
}

TEST(Swiglu, ExtremeGatesAreFinite) {
  for_each_level([](const Kernels& kernels) {
    for (const DType dtype : kFloats) {
      Matrix gate(dtype, 1, 4), y(dtype, 1, 4);
      const Matrix up = [&] {
        Matrix ones(dtype, 1, 4);
        for (int64_t j = 0; j < 4; ++j) ones.set(0, j, 1);
        return ones;
      }();
      constexpr double kGates[] = {-1e4, -88, 88, 1e4};
      for (int64_t j = 0; j < 4; ++j) gate.set(0, j, kGates[j]);
      kernels.swiglu_forward(y.view(), gate, up);
      EXPECT_NEAR(y.at(0, 0), 0, 1e-30);
      EXPECT_NEAR(y.at(0, 1), 0, 1e-30);
      EXPECT_EQ(y.at(0, 2), gate.at(0, 2));
      EXPECT_EQ(y.at(0, 3), gate.at(0, 3));
    }
  });
}

}  // namespace
}  // namespace ag::test
