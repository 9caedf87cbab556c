// Learning rate of an update, a pure function of its number: linear warm-up, constant, decay.
//   s <= W           lr s / W                      (W = 0: no warm-up, lr(0) = lr)
//   W < s < D        lr
//   D <= s < D + N   min + (lr - min) f((s - D) / N),   f = 1 - sqrt(t), (1 + cos(pi t)) / 2, 1 - t
//   s >= D + N       min                           (N = 0: no decay, lr)
#pragma once

#include <cstdint>

#include "trainer/config/config.h"

namespace trainer {

enum class DecayStyle { kOneMinusSqrt, kCosine, kLinear };

struct Schedule {
  double learning_rate = 0;
  double min_learning_rate = 0;
  int64_t warmup_steps = 0;
  int64_t decay_start = 0;
  int64_t decay_steps = 0;
  DecayStyle style = DecayStyle::kOneMinusSqrt;
};

Schedule make_schedule(const LearningRateConfig& config);

// `s` counts updates from 0: the update logged as step n uses s = n - 1.
double learning_rate(const Schedule& schedule, int64_t s);

}  // namespace trainer
