#include "data/mixture.h"

#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "core/error.h"
#include "data/numpy_random.h"

namespace data {
namespace {

// numpy.sum of contiguous float64: eight running sums over blocks of at most 128, halves above. The
// order of additions decides the last bit of the weights, and that bit can decide a tie.
double numpy_sum(std::span<const double> x) {
  constexpr size_t kLanes = 8, kBlock = 128;
  if (x.size() < kLanes) return std::accumulate(x.begin(), x.end(), 0.0);
  if (x.size() > kBlock) {
    const size_t half = x.size() / 2 / kLanes * kLanes;
    return numpy_sum(x.first(half)) + numpy_sum(x.subspan(half));
  }
  std::array<double, kLanes> r{};
  for (size_t lane = 0; lane < kLanes; ++lane) r[lane] = x[lane];
  size_t i = kLanes;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) r[lane] += x[i + lane];
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < x.size(); ++i) sum += x[i];
  return sum;
}

}  // namespace

std::vector<double> normalize_weights(std::span<const double> weights) {
  for (size_t j = 0; j < weights.size(); ++j)
    if (!std::isfinite(weights[j]) || weights[j] < 0)
      core::fail(core::ExitCode::kBadConfig, {.field = "dataset_weights[" + std::to_string(j) + "]",
                                              .expected = "a finite number >= 0",
                                              .found = std::to_string(weights[j])});
  const double sum = numpy_sum(weights);
  if (!(sum > 0) || !std::isfinite(sum))
    core::fail(core::ExitCode::kBadConfig, {.field = "dataset_weights",
                                            .expected = "a positive finite sum",
                                            .found = std::to_string(sum)});
  std::vector<double> normalized(weights.begin(), weights.end());
  for (double& w : normalized) w /= sum;
  return normalized;
}

MixtureOrder choose_samples(int64_t n, std::span<const double> weights,
                            std::span<const int64_t> sizes) {
  MixtureOrder order;
  order.dataset.reserve(static_cast<size_t>(n));
  order.sample.reserve(static_cast<size_t>(n));
  std::vector<int64_t> count(weights.size(), 0);
  for (int64_t i = 0; i < n; ++i) {
    const auto drawn = static_cast<double>(i > 0 ? i : 1);
    size_t best = 0;
    double best_error = weights[0] * drawn - static_cast<double>(count[0]);
    for (size_t j = 1; j < weights.size(); ++j) {
      const double error = weights[j] * drawn - static_cast<double>(count[j]);
      if (error > best_error) {
        best = j;
        best_error = error;
      }
    }
    order.dataset.push_back(static_cast<uint16_t>(best));
    order.sample.push_back(static_cast<uint32_t>(count[best]++ % sizes[best]));
  }
  return order;
}

MixtureOrder mixture_order(std::span<const double> weights, std::span<const int64_t> sizes,
                           uint32_t seed) {
  if (sizes.size() > UINT16_MAX)
    core::fail(core::ExitCode::kBadConfig, {.field = "dataset_folder",
                                            .expected = "at most 65535 datasets",
                                            .found = std::to_string(sizes.size())});
  int64_t samples_per_epoch = 0;
  for (const int64_t size : sizes) {
    if (size > int64_t{UINT32_MAX} + 1)
      core::fail(core::ExitCode::kBadConfig, {.field = "dataset samples",
                                              .expected = "at most 4294967296",
                                              .found = std::to_string(size)});
    samples_per_epoch += size;
  }
  MixtureOrder order = choose_samples(samples_per_epoch, weights, sizes);
  // Two generators in the same state: both arrays get the same permutation.
  RandomState(seed).shuffle(std::span(order.dataset));
  RandomState(seed).shuffle(std::span(order.sample));
  return order;
}

}  // namespace data
