#include "trainer/step/schedule.h"

#include <cmath>
#include <numbers>

namespace trainer {
namespace {

// 1 at t = 0, 0 at t = 1.
double remaining_fraction(DecayStyle style, double t) {
  switch (style) {
    case DecayStyle::kOneMinusSqrt:
      return 1 - std::sqrt(t);
    case DecayStyle::kCosine:
      return (1 + std::cos(std::numbers::pi * t)) / 2;
    case DecayStyle::kLinear:
      return 1 - t;
  }
  return 0;
}

DecayStyle parse_decay_style(const std::string& name) {
  if (name == "cosine") return DecayStyle::kCosine;
  return name == "linear" ? DecayStyle::kLinear : DecayStyle::kOneMinusSqrt;
}

}  // namespace

Schedule make_schedule(const LearningRateConfig& config) {
  return {.learning_rate = config.learning_rate,
          .min_learning_rate = config.min_decay_lr,
          .warmup_steps = config.lr_warmup_steps,
          .decay_start = config.lr_decay_starting_step,
          .decay_steps = config.lr_decay_steps,
          .style = parse_decay_style(config.lr_decay_style)};
}

double learning_rate(const Schedule& schedule, int64_t s) {
  const auto& [peak, floor, warmup_steps, decay_start, decay_steps, style] = schedule;
  if (warmup_steps > 0 && s <= warmup_steps)
    return peak * static_cast<double>(s) / static_cast<double>(warmup_steps);
  if (decay_steps == 0 || s < decay_start) return peak;
  if (s >= decay_start + decay_steps) return floor;
  const double t = static_cast<double>(s - decay_start) / static_cast<double>(decay_steps);
  return floor + (peak - floor) * remaining_fraction(style, t);
}

}  // namespace trainer
