// A value handle on a dense, contiguous, row-major block of elements. Copies share the block.
#pragma once

#include <span>
#include <vector>

#include "autograd/core/check.h"
#include "autograd/core/pool.h"
#include "autograd/core/shape.h"
#include "autograd/core/view.h"

namespace ag {

class Tensor {
 public:
  Tensor() = default;  // holds nothing; defined() is false

  // Contents undefined.
  static Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu);
  static Tensor like(const Tensor& other) {
    return empty(other.shape(), other.dtype(), other.device());
  }
  static Tensor zeros(const Shape& shape, DType dtype, Device device = Device::cpu);
  // Memory that somebody else made, kept by `owner`; it is not counted by the pool. Requires:
  // 64-byte aligned, shape.numel() elements, on the CPU.
  static Tensor over(std::shared_ptr<void> owner, std::byte* data, const Shape& shape, DType dtype);
  template <class T>
  static Tensor from_host(const Shape& shape, std::span<const T> values,
                          Device device = Device::cpu) {
    CHECK_ARGUMENT("tensor", static_cast<int64_t>(values.size()) == shape.numel(),
                   "values for " + to_string(shape), std::to_string(values.size()));
    Tensor t = empty(shape, dtype_of<T>(), device);
    t.copy_from(values.data());
    return t;
  }
  template <class T>
  std::vector<T> to_host() const {
    CHECK_ARGUMENT("tensor", dtype() == dtype_of<T>(), std::string(name_of(dtype_of<T>())),
                   std::string(name_of(dtype())));
    std::vector<T> values(static_cast<size_t>(numel()));
    copy_to(values.data());
    return values;
  }

  bool defined() const { return block_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t numel() const { return shape_.numel(); }
  int64_t rows() const { return shape_.rows(); }
  int64_t cols() const { return shape_.cols(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }
  // True when no other handle shares the block, so that it may be written in place.
  bool unique() const { return block_.use_count() == 1; }

  // The same elements under another shape of equal size.
  Tensor reshaped(const Shape& shape) const;
  // Elements [offset, offset + shape.numel()) of the flat tensor.
  Tensor slice(int64_t offset, const Shape& shape) const;

  // As a matrix [rows, cols].
  View view(bool accumulate = false);
  ConstView view() const;
  operator ConstView() const { return view(); }

  // Host copies; sizes are the tensor's.
  void copy_from(const void* host);
  void copy_to(void* host) const;
  void fill_zero();

 private:
  std::shared_ptr<Block> block_;
  int64_t offset_ = 0;  // elements
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_ = Device::cpu;
};

}  // namespace ag
