// Relative distance of two tensors in the Frobenius norm, in float64; NaN makes every bound fail.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "autograd/core/tensor.h"
#include "autograd/kernels/kernels.h"

namespace test_support {

inline std::vector<double> doubles(const ag::Tensor& t) {
  ag::Tensor wide = ag::Tensor::empty(t.shape(), ag::DType::f64);
  ag::kernels(t.device()).cast(wide.view(), t);
  return wide.to_host<double>();
}

// ||a - b|| / ||b||, with `floor` added to the denominator where the true value may be zero.
inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b,
                                double floor = 0) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference) / (std::sqrt(norm) + floor);
}

inline double relative_distance(const ag::Tensor& a, const ag::Tensor& b, double floor = 0) {
  return relative_distance(doubles(a), doubles(b), floor);
}

// Largest |a - b| over the largest |b|.
inline double max_relative_distance(const ag::Tensor& a, const ag::Tensor& b) {
  const std::vector<double> x = doubles(a), y = doubles(b);
  double difference = 0, largest = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    difference = std::fmax(difference, std::isnan(x[i]) ? std::numeric_limits<double>::infinity()
                                                        : std::abs(x[i] - y[i]));
    largest = std::fmax(largest, std::abs(y[i]));
  }
  return x.size() == y.size() ? difference / largest : std::numeric_limits<double>::infinity();
}

}  // namespace test_support
