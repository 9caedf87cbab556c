// Checksums of sequences of numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace test_support {

// sum of i * x[i]: one number that every position enters.
template <class T>
int64_t weighted_sum(const std::vector<T>& x) {
  int64_t sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += static_cast<int64_t>(i) * static_cast<int64_t>(x[i]);
  return sum;
}

}  // namespace test_support
