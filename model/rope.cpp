#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace model {
namespace {

// Wavelengths above the original context are slowed down by `factor`, short ones are left alone,
// and between the two thresholds the frequency is interpolated.
double llama3_scaled(double frequency, const RopeParameters& rope) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// Appends the unrotated columns of one head, neighbours joined into runs.
void append_copies(ag::RopePlan& plan, const std::vector<int32_t>& columns, int32_t in_begin,
                   int32_t out_begin) {
  for (const int32_t column : columns) {
    const int32_t in = in_begin + column;
    if (!plan.copies.empty() && plan.copies.back().in + plan.copies.back().count == in &&
        plan.copies.back().out + plan.copies.back().count == out_begin)
      ++plan.copies.back().count;
    else
      plan.copies.push_back({in, out_begin, 1});
    ++out_begin;
  }
}

}  // namespace

std::vector<double> inverse_frequencies(const RopeParameters& rope, int64_t head_dim) {
  std::vector<double> frequencies;
  for (int64_t k = 0; k < head_dim / 2; ++k) {
    double f = std::pow(rope.theta, -2.0 * static_cast<double>(k) / static_cast<double>(head_dim));
    if (rope.type == RopeParameters::Type::linear) f /= rope.factor;
    if (rope.type == RopeParameters::Type::llama3) f = llama3_scaled(f, rope);
    frequencies.push_back(f);
  }
  return frequencies;
}

std::vector<int32_t> rotary_columns(const std::vector<int32_t>& kept, int64_t head_dim) {
  std::vector<int32_t> columns = kept;
  for (const int32_t k : kept) columns.push_back(k + static_cast<int32_t>(head_dim / 2));
  return columns;
}

std::vector<int32_t> nope_columns(const std::vector<int32_t>& kept, int64_t head_dim) {
  const auto pairs = static_cast<int32_t>(head_dim / 2);
  std::vector<int32_t> columns;
  for (int32_t column = 0; column < head_dim; ++column)
    if (!std::binary_search(kept.begin(), kept.end(), column % pairs)) columns.push_back(column);
  return columns;
}

ag::RopePlan gather_plan(const std::vector<std::vector<int32_t>>& kept_pairs, int64_t group,
                         int64_t head_dim) {
  const auto width = static_cast<int32_t>(head_dim), half = width / 2;
  ag::RopePlan plan;
  int32_t begin = 0;  // of the head, the same in x and y
  for (const auto& kept : kept_pairs) {
    const auto r = static_cast<int32_t>(kept.size());
    const std::vector<int32_t> rest = nope_columns(kept, head_dim);
    for (int64_t h = 0; h < group; ++h, begin += width) {
      for (int32_t i = 0; i < r; ++i) {
        const int32_t k = kept[static_cast<size_t>(i)];
        plan.pairs.push_back({begin + k, begin + k + half, begin + i, begin + r + i, k});
      }
      append_copies(plan, rest, begin, begin + 2 * r);
    }
  }
  plan.columns = begin;
  return plan;
}

ag::RopePlan compact_plan(const std::vector<std::vector<int32_t>>& kept_pairs) {
  ag::RopePlan plan;
  int32_t begin = 0;
  for (const auto& kept : kept_pairs) {
    const auto r = static_cast<int32_t>(kept.size());
    for (int32_t i = 0; i < r; ++i)
      plan.pairs.push_back(
          {begin + i, begin + r + i, begin + i, begin + r + i, kept[static_cast<size_t>(i)]});
    begin += 2 * r;
  }
  plan.columns = begin;
  return plan;
}

}  // namespace model
