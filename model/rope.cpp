#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

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

// NTK-aware: the slowest pair turns `stretch` times slower, the fastest as before.
double dynamic_theta(const RopeParameters& rope, int64_t head_dim, int64_t text_length) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const double length = std::max(static_cast<double>(text_length), original);
  const double stretch = rope.factor * length / original - (rope.factor - 1);
  const auto d = static_cast<double>(head_dim);
  return rope.theta * std::pow(stretch, d / (d - 2));
}

// Pairs that turn more than beta_fast times within the original context keep their frequency, those
// below beta_slow times are slowed down by `factor`, and a ramp over the pairs joins them.
class YarnRamp {
 public:
  YarnRamp(const RopeParameters& rope, int64_t head_dim) : factor_(rope.factor) {
    const auto d = static_cast<double>(head_dim);
    // The (fractional) pair that turns `turns` times within the original context.
    const auto pair_of = [&](double turns) {
      const auto original = static_cast<double>(rope.original_max_position_embeddings);
      return d * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
    };
    low_ = pair_of(rope.beta_fast);
    high_ = pair_of(rope.beta_slow);
    if (rope.truncate) {
      low_ = std::floor(low_);
      high_ = std::ceil(high_);
    }
    low_ = std::max(low_, 0.0);
    high_ = std::min(high_, d - 1);
    if (low_ == high_) high_ += 0.001;  // the reference's step instead of a ramp of width 0
  }

  double scaled(double frequency, int64_t pair) const {
    const double slow = std::clamp((static_cast<double>(pair) - low_) / (high_ - low_), 0.0, 1.0);
    return frequency / factor_ * slow + frequency * (1 - slow);
  }

 private:
  double factor_, low_ = 0, high_ = 0;
};

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

std::vector<double> inverse_frequencies(const RopeParameters& rope, int64_t head_dim,
                                        int64_t text_length) {
  using Type = RopeParameters::Type;
  const double theta =
      rope.type == Type::dynamic ? dynamic_theta(rope, head_dim, text_length) : rope.theta;
  std::optional<YarnRamp> yarn;
  if (rope.type == Type::yarn) yarn.emplace(rope, head_dim);
  std::vector<double> frequencies;
  for (int64_t k = 0; k < head_dim / 2; ++k) {
    double f = std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(head_dim));
    if (rope.type == Type::linear) f /= rope.factor;
    if (rope.type == Type::llama3) f = llama3_scaled(f, rope);
    if (yarn) f = yarn->scaled(f, k);
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
