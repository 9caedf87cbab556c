// What decoding keeps of the past, per layer: rotated keys and values without a latent, rotary keys
// and latents with one. One sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/core/tensor.h"

namespace model {

// Rows [0, length) of a matrix that grows by appending.
class CacheRows {
 public:
  // Appends rows [n, columns] and returns all rows so far, [length, columns].
  ag::Tensor append(const ag::Tensor& rows);
  int64_t bytes_per_token() const {
    return rows_.defined() ? rows_.cols() * ag::size_of(rows_.dtype()) : 0;
  }

 private:
  ag::Tensor rows_;  // capacity doubles
  int64_t length_ = 0;
};

struct LayerCache {
  CacheRows key;     // dense: k [*, G*D]; latent: k_rope [*, sum 2r]
  CacheRows latent;  // kv latent, or the latent of k
  CacheRows value;   // dense: v [*, G*D]; split: the latent of v
};

struct Cache {
  explicit Cache(int64_t number_of_layers) : layers(static_cast<size_t>(number_of_layers)) {}
  std::vector<LayerCache> layers;
  int64_t length = 0;  // tokens so far

  int64_t bytes_per_token() const;
};

}  // namespace model
