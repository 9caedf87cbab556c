// A tensor's extents, row-major, last fastest. At most 4 dimensions, no heap.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace ag {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;  // rank 0: one element
  Shape(std::initializer_list<int64_t> extents) {
    if (extents.size() > kMaxRank)
      throw core::Error(core::ExitCode::kInternal, "error: shape: rank above 4");
    for (int64_t e : extents) extents_[static_cast<size_t>(rank_++)] = e;
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return extents_[static_cast<size_t>(i)]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  // As a matrix: the last extent, and the product of the others.
  int64_t cols() const { return rank_ == 0 ? 1 : (*this)[rank_ - 1]; }
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= (*this)[i];
    return n;
  }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxRank> extents_{};  // unused extents stay 0, so == may compare them all
  int rank_ = 0;
};

inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace ag
