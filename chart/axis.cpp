#include "chart/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "chart/text.h"

namespace chart {
namespace {

// The least of 1, 2, 5, 10 times a power of ten that is not below `step`.
double round_up_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

void widen_single_value(double& low, double& high) {
  // Less than what six digits tell apart is one value.
  const double least = 1e-6 * std::max(std::abs(low), std::abs(high));
  if (high - low > least) return;
  const double half = low == 0 ? 1 : std::abs(low) * 0.1;
  const double middle = (low + high) / 2;
  low = middle - half;
  high = middle + half;
}

Axis linear_axis(double low, double high, int wanted) {
  widen_single_value(low, high);
  const double step = round_up_step((high - low) / wanted);
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  Axis axis{.low = first * step, .high = last * step, .logarithmic = false, .ticks = {}};
  for (double i = first; i <= last; ++i) axis.ticks.push_back({i * step, format_tick(i * step)});
  return axis;
}

Axis decades_axis(double low, double high, int wanted) {
  const double first = std::floor(std::log10(low)), last = std::ceil(std::log10(high));
  const double step = std::max(1.0, std::ceil((last - first) / wanted));
  Axis axis{
      .low = std::pow(10, first), .high = std::pow(10, last), .logarithmic = true, .ticks = {}};
  for (double e = first; e <= last; e += step) {
    const double power = std::pow(10, e);
    axis.ticks.push_back({power, format_tick(power)});
  }
  return axis;
}

Axis logarithmic_axis(double low, double high, int wanted) {
  if (high > 100 * low) return decades_axis(low, high, wanted);
  const double end = round_up_step(high);
  Axis axis{.low = end, .high = end, .logarithmic = true, .ticks = {}};
  for (double tick = end;; tick = round_up_step(tick / 2.6)) {  // the next lower of 1, 2, 5
    axis.low = tick;
    axis.ticks.insert(axis.ticks.begin(), {tick, format_tick(tick)});
    if (tick <= low * (1 + 1e-9)) return axis;
  }
}

}  // namespace

double Axis::place(double value) const {
  if (logarithmic) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

bool Axis::can_show(double value) const {
  return std::isfinite(value) && std::abs(value) <= kLargestDrawn &&
         (!logarithmic || value >= 1 / kLargestDrawn);
}

Axis make_axis(const std::vector<double>& values, bool logarithmic, int wanted) {
  const Axis filter{.logarithmic = logarithmic, .ticks = {}};
  std::vector<double> shown;
  std::copy_if(values.begin(), values.end(), std::back_inserter(shown),
               [&](double value) { return filter.can_show(value); });
  if (shown.empty() && logarithmic) return make_axis(values, false, wanted);
  for (double& value : shown)
    if (std::abs(value) < 1 / kLargestDrawn) value = 0;  // no ticks lie between such and zero
  if (shown.empty()) return linear_axis(0, 1, wanted);
  const auto [low, high] = std::minmax_element(shown.begin(), shown.end());
  if (logarithmic && *high >= 3 * *low) return logarithmic_axis(*low, *high, wanted);
  if (logarithmic) return make_axis(values, false, wanted);
  return linear_axis(*low, *high, wanted);
}

}  // namespace chart
