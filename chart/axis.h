// An axis: a range rounded to its ticks, and where a value lies on it.
#pragma once

#include <string>
#include <vector>

namespace chart {

// Values beyond this are not drawn: an axis could not hold them beside others.
inline constexpr double kLargestDrawn = 1e100;

struct Tick {
  double value = 0;
  std::string label;
};

struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  std::vector<Tick> ticks;  // ascending, in [low, high]

  // 0 at `low`, 1 at `high`.
  double place(double value) const;
  // Finite, not too large and, on a logarithmic axis, not too near to zero.
  bool can_show(double value) const;
};

// About `wanted` ticks at 1, 2 or 5 times a power of ten; on a logarithmic axis at all of these up
// to a factor of a hundred. One without a positive value, or over less than a factor of three,
// becomes linear. Values that cannot be shown play no role; without any, 0 to 1.
Axis make_axis(const std::vector<double>& values, bool logarithmic, int wanted);

}  // namespace chart
