// Pair norms of queries and keys over calibration windows (section 1.4).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/attention.h"
#include "model/keep_set.h"

namespace model {

// Sums over all tokens that pass while observer() watches. Windows may come in any batches, but all
// of the same length, so that the mean over tokens of each window and then over windows is the mean
// over all tokens.
class Calibration {
 public:
  // Requires: an unconverted model without QK-norm (kBadConfig otherwise).
  explicit Calibration(const ModelSpec& spec);

  // Sees q and k of each layer. Requires: this outlives it.
  QueryKeyObserver observer();
  int64_t tokens() const { return tokens_; }  // that passed the first layer
  // Means over all tokens so far. Requires: there are some, and all have passed all layers.
  PairNorms pair_norms() const;

 private:
  void observe(int64_t layer, const ag::Tensor& q, const ag::Tensor& k);

  PairNorms sums_;
  int64_t tokens_ = 0;
};

// Statistics as a file: safetensors with score_product, score_sum [L, G, P] and query_norm [L, H,
// P], key_norm [L, G, P] (f64), and in the metadata the hash of the model, tokens and the data's
// description.
void write_statistics(const std::filesystem::path& path, const PairNorms& norms,
                      const std::string& model_hash, int64_t tokens, const std::string& data);
// Throws kBadData for a wrong shape or values that are no norms, kBadConfig when the hash is
// another model's.
PairNorms read_statistics(const std::filesystem::path& path, const LlamaConfig& config,
                          const std::string& model_hash);

}  // namespace model
