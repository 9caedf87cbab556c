// All that a kernel sees of a tensor: a pointer, a matrix shape with a row stride, a type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "autograd/core/dtype.h"

namespace ag {

struct ConstView {
  const void* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t ld = 0;  // elements between the starts of two rows
  DType dtype = DType::f32;

  int64_t numel() const { return rows * cols; }
  template <class T>
  const T* row(int64_t i) const {
    return static_cast<const T*>(data) + i * ld;
  }
};

// A destination. `accumulate` chooses += over =; a kernel honours it on every output it has.
struct View {
  void* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t ld = 0;
  DType dtype = DType::f32;
  bool accumulate = false;

  operator ConstView() const { return {data, rows, cols, ld, dtype}; }
  int64_t numel() const { return rows * cols; }
  // Rows [begin, begin + count). Requires: they are rows of this view.
  View row_range(int64_t begin, int64_t count) const {
    std::byte* first = static_cast<std::byte*>(data) + begin * ld * size_of(dtype);
    return {first, count, cols, ld, dtype, accumulate};
  }
  template <class T>
  T* row(int64_t i) const {
    return static_cast<T*>(data) + i * ld;
  }
};

}  // namespace ag
