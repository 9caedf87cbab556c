#include "model/cache.h"

#include <algorithm>

#include "autograd/kernels/kernels.h"

namespace model {

ag::Tensor CacheRows::append(const ag::Tensor& rows) {
  const int64_t wanted = length_ + rows.rows();
  const ag::Kernels& k = ag::kernels(rows.device());
  if (!rows_.defined() || wanted > rows_.rows()) {
    const int64_t capacity = std::max<int64_t>(wanted, 2 * length_);
    ag::Tensor larger = ag::Tensor::empty({capacity, rows.cols()}, rows.dtype());
    if (length_ > 0) {
      const ag::Shape used = {length_, rows.cols()};
      k.cast(larger.slice(0, used).view(), rows_.slice(0, used));
    }
    rows_ = larger;
  }
  k.cast(rows_.slice(length_ * rows.cols(), rows.shape()).view(), rows);
  length_ = wanted;
  return rows_.slice(0, {length_, rows.cols()});
}

int64_t Cache::bytes_per_token() const {
  int64_t bytes = 0;
  for (const LayerCache& layer : layers)
    bytes += layer.key.bytes_per_token() + layer.latent.bytes_per_token() +
             layer.value.bytes_per_token();
  return bytes;
}

}  // namespace model
