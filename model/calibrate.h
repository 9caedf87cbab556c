// Pair norms of queries and keys over calibration windows (section 1.4), in one forward pass.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/keep_set.h"
#include "model/llama.h"

namespace model {

// Feed windows [B, T] of ids; every window must have the same T, so that the mean over tokens of
// each window and then over windows is the mean over all tokens.
class Calibration {
 public:
  // Requires: an unconverted model without QK-norm (kBadConfig otherwise).
  explicit Calibration(Llama& model);

  // ids [B*T] i32. Runs the forward pass and adds its pair norms.
  void add(const ag::Tensor& ids, int64_t batch);
  int64_t tokens() const { return tokens_; }
  // Means over all tokens so far. Requires: there are some.
  PairNorms pair_norms() const;

 private:
  void observe(int64_t layer, const ag::Tensor& q, const ag::Tensor& k);

  Llama& model_;
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
