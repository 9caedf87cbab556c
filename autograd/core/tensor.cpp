#include "autograd/core/tensor.h"

#include <cstring>

namespace ag {

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  t.block_ = Pool::take(device, static_cast<size_t>(t.bytes()));
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill_zero();
  return t;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  CHECK_ARGUMENT("reshape", shape.numel() == numel(), to_string(shape_), to_string(shape));
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::slice(int64_t offset, const Shape& shape) const {
  CHECK_ARGUMENT("slice", offset >= 0 && offset + shape.numel() <= numel(),
                 "a part of " + to_string(shape_),
                 to_string(shape) + " at " + std::to_string(offset));
  Tensor t = *this;
  t.offset_ += offset;
  t.shape_ = shape;
  return t;
}

View Tensor::view(bool accumulate) {
  std::byte* data = block_->data + offset_ * size_of(dtype_);
  return {data, rows(), cols(), cols(), dtype_, accumulate};
}

ConstView Tensor::view() const {
  const std::byte* data = block_->data + offset_ * size_of(dtype_);
  return {data, rows(), cols(), cols(), dtype_};
}

void Tensor::copy_from(const void* host) {
  if (numel() > 0) std::memcpy(view().data, host, static_cast<size_t>(bytes()));
}
void Tensor::copy_to(void* host) const {
  if (numel() > 0) std::memcpy(host, view().data, static_cast<size_t>(bytes()));
}
void Tensor::fill_zero() {
  if (numel() > 0) std::memset(view().data, 0, static_cast<size_t>(bytes()));
}

}  // namespace ag
