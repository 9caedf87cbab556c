// The order in which a weighted mixture of datasets is read, exactly nanotron's:
//   choice i of N = sum of sizes:  argmax_j( w_j * max(i, 1) - count_j ), the first index wins
//   ties; its sample is count_j mod size_j; then both arrays are shuffled by a fresh
//   RandomState(seed).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace data {

// One epoch: entry i names the dataset and the sample of it that is read as i-th.
struct MixtureOrder {
  std::vector<uint16_t> dataset;
  std::vector<uint32_t> sample;

  int64_t size() const { return static_cast<int64_t>(dataset.size()); }
};

// w_j / sum(w), rounded as numpy rounds it (pairwise summation). Throws kBadConfig when a weight is
// negative or not finite, or when the sum is not a positive finite number.
std::vector<double> normalize_weights(std::span<const double> weights);

// The choices before the shuffle, n of them. Requires: weights normalised, as many as sizes; sizes
// > 0.
MixtureOrder choose_samples(int64_t n, std::span<const double> weights,
                            std::span<const int64_t> sizes);

// One shuffled epoch of sum(sizes) samples. Throws kBadConfig when there are more than 65,535
// datasets or a dataset has more than 2^32 samples.
MixtureOrder mixture_order(std::span<const double> weights, std::span<const int64_t> sizes,
                           uint32_t seed);

}  // namespace data
