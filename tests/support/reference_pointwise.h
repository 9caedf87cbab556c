// What kernel tests share: matrices with padding that tell when something writes outside, loops
// over the levels of this machine and over thread counts, and bounds from the rounding units.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "autograd/kernels/kernels.h"

namespace ag::test {

inline constexpr double kPadding = 77;
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Largest relative error of one rounding.
inline double rounding_unit(DType dtype) {
  if (dtype == DType::bf16) return std::ldexp(1.0, -8);
  return std::ldexp(1.0, dtype == DType::f32 ? -24 : -53);
}

// Error of a sum of n terms, in units of the sum of their magnitudes and of the rounding unit:
// roundings are independent, so that they grow with sqrt(n); four standard deviations.
inline double sum_error(int64_t n) { return 4 * std::sqrt(static_cast<double>(n)) + 4; }

class Matrix {
 public:
  Matrix(DType dtype, int64_t rows, int64_t cols, int64_t pad = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), ld_(cols + pad) {
    bytes_.resize(static_cast<size_t>(rows * ld_ * size_of(dtype)));
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < ld_; ++j) set(i, j, kPadding);
    }
  }

  static Matrix random(DType dtype, int64_t rows, int64_t cols, int64_t pad, unsigned seed,
                       double deviation = 1) {
    Matrix x(dtype, rows, cols, pad);
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(0, deviation);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) x.set(i, j, normal(engine));
    }
    return x;
  }
  // What an output holds before: values when it accumulates, else NaN, which must not survive.
  static Matrix output(DType dtype, int64_t rows, int64_t cols, int64_t pad, bool accumulate) {
    if (accumulate) return random(dtype, rows, cols, pad, 99);
    Matrix x(dtype, rows, cols, pad);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) x.set(i, j, kNaN);
    }
    return x;
  }

  double at(int64_t i, int64_t j) const {
    const std::byte* p = place(i, j);
    if (dtype_ == DType::f32) return static_cast<double>(read<float>(p));
    if (dtype_ == DType::f64) return read<double>(p);
    return static_cast<double>(read<bf16>(p));
  }
  void set(int64_t i, int64_t j, double x) {
    std::byte* p = bytes_.data() + (i * ld_ + j) * size_of(dtype_);
    if (dtype_ == DType::f32) {
      write(p, static_cast<float>(x));
    } else if (dtype_ == DType::f64) {
      write(p, x);
    } else {
      write(p, bf16(static_cast<float>(x)));
    }
  }

  View view(bool accumulate = false) {
    return {bytes_.data(), rows_, cols_, ld_, dtype_, accumulate};
  }
  ConstView view() const { return {bytes_.data(), rows_, cols_, ld_, dtype_}; }
  operator ConstView() const { return view(); }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

  bool padding_untouched() const {
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = cols_; j < ld_; ++j) {
        if (at(i, j) != kPadding) return false;
      }
    }
    return true;
  }

 private:
  template <class T>
  static T read(const std::byte* p) {
    T x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  template <class T>
  static void write(std::byte* p, T x) {
    std::memcpy(p, &x, sizeof x);
  }
  const std::byte* place(int64_t i, int64_t j) const {
    return bytes_.data() + (i * ld_ + j) * size_of(dtype_);
  }

  DType dtype_;
  int64_t rows_, cols_, ld_;
  std::vector<std::byte> bytes_;
};

// Token ids or targets as the kernels take them, [1, N].
inline ConstView view_of(const std::vector<int32_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size());
  return {ids.data(), 1, n, n, DType::i32};
}

// A reference value and how far the wide arithmetic may be from it; the last rounding and, when
// accumulating, the old value are added here.
struct Expected {
  double value, error;
};

// Compares every element of `got` with reference(i, j) -> Expected.
template <class F>
void expect_matches(const Matrix& got, const Matrix& before, bool accumulate, F reference) {
  EXPECT_TRUE(got.padding_untouched());
  const double last = rounding_unit(got.dtype()), wide = rounding_unit(wide_of(got.dtype()));
  for (int64_t i = 0; i < got.rows(); ++i) {
    for (int64_t j = 0; j < got.cols(); ++j) {
      const Expected expected = reference(i, j);
      const double old = accumulate ? before.at(i, j) : 0;
      const double value = old + expected.value;
      // A value that is rounded once more, from a sum that was rounded in wide.
      const double bound = expected.error + wide * std::abs(value) +
                           1.01 * last * (std::abs(value) + expected.error) + 1e-37;
      ASSERT_LE(std::abs(got.at(i, j) - value), bound)
          << "element " << i << ", " << j << ": got " << got.at(i, j) << ", expected " << value;
    }
  }
}

// body(kernels) at every level of this machine with kernels of its own: amx has those of avx512,
// and the same product.
template <class F>
void for_each_level(F body) {
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa > active_isa()) break;
    SCOPED_TRACE(std::string("isa ") + std::string(name_of(isa)));
    body(cpu_kernels(isa));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// body(kernels) -> std::vector<Matrix> at every level: the same bits with 1, 2 and 4 threads.
template <class F>
void same_for_all_threads(F body) {
  const int before = threads();
  for_each_level([&](const Kernels& kernels) {
    set_threads(1);
    const std::vector<Matrix> alone = body(kernels);
    for (const int count : {2, 4}) {
      set_threads(count);
      const std::vector<Matrix> together = body(kernels);
      for (size_t i = 0; i < alone.size(); ++i) {
        EXPECT_TRUE(alone[i].bytes() == together[i].bytes())
            << "output " << i << " differs with " << count << " threads";
      }
    }
  });
  set_threads(before);
}

struct Case {
  DType dtype;
  int64_t rows, cols, pad;
  bool accumulate;
};

inline std::string to_string(const Case& c) {
  return std::string(name_of(c.dtype)) + " [" + std::to_string(c.rows) + ", " +
         std::to_string(c.cols) + "] pad " + std::to_string(c.pad) +
         (c.accumulate ? " accumulate" : "");
}

// body(case) over types, odd sizes, padding and both modes. The large ones are shared by threads.
template <class F>
void for_each_case(F body) {
  constexpr int64_t kSizes[][2] = {{1, 1},  {3, 2},    {2, 3},     {5, 17},
                                   {1, 64}, {260, 65}, {17, 1000}, {1, 17001}};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const auto& size : kSizes) {
      for (const int64_t pad : {0, 5}) {
        for (const bool accumulate : {false, true}) {
          const Case c{dtype, size[0], size[1], pad, accumulate};
          SCOPED_TRACE(to_string(c));
          body(c);
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

}  // namespace ag::test
