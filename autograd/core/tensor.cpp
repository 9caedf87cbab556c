#include "autograd/core/tensor.h"

#include <cstring>

namespace ag {
namespace {

bool size_fits(const Shape& shape, DType dtype) {
  int64_t bytes = size_of(dtype);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes)) return false;
  }
  return true;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  CHECK_ARGUMENT("tensor", size_fits(shape, dtype), "a size below 2^63 bytes", to_string(shape));
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

Tensor Tensor::over(std::shared_ptr<void> owner, std::byte* data, const Shape& shape, DType dtype) {
  CHECK_ARGUMENT("tensor", size_fits(shape, dtype), "a size below 2^63 bytes", to_string(shape));
  struct Foreign {
    std::shared_ptr<void> owner;
    Block block;
  };
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  const auto foreign =
      std::make_shared<Foreign>(Foreign{std::move(owner), {data, static_cast<size_t>(t.bytes())}});
  t.block_ = {foreign, &foreign->block};
  return t;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  CHECK_ARGUMENT("reshape", shape.numel() == numel(), to_string(shape_), to_string(shape));
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::slice(int64_t offset, const Shape& shape) const {
  CHECK_ARGUMENT("slice", offset >= 0 && offset <= numel() - shape.numel(),
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
