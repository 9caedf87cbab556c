// The schedule against the published values of the 135M recipe, and the rules of its seams.
#include "trainer/step/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trainer {
namespace {

constexpr Schedule k135M = {.learning_rate = 1e-4,
                            .min_learning_rate = 0,
                            .warmup_steps = 900,
                            .decay_start = 16200,
                            .decay_steps = 1800,
                            .style = DecayStyle::kOneMinusSqrt};

TEST(Schedule, GoldenValuesOf135M) {
  struct Golden {
    int64_t s;
    double lr;  // four digits
  };
  for (const auto& [s, lr] :
       {Golden{0, 0.0}, Golden{1, 1.111e-7}, Golden{450, 5e-5}, Golden{900, 1e-4},
        Golden{901, 1e-4}, Golden{16200, 1e-4}, Golden{16201, 9.764e-5}, Golden{16650, 5e-5},
        Golden{17100, 2.929e-5}, Golden{17999, 2.778e-8}, Golden{18000, 0.0}, Golden{20000, 0.0}})
    EXPECT_NEAR(learning_rate(k135M, s), lr, 0.5e-3 * lr) << "s = " << s;
}

TEST(Schedule, WithoutWarmupTheFirstUpdateHasTheFullRate) {
  Schedule schedule = k135M;
  schedule.warmup_steps = 0;
  EXPECT_EQ(learning_rate(schedule, 0), 1e-4);
}

TEST(Schedule, WithoutWarmupAndDecayItIsConstant) {
  const Schedule constant = {.learning_rate = 3e-4};
  for (const int64_t s : {0, 1, 1000, 1000000}) EXPECT_EQ(learning_rate(constant, s), 3e-4);
}

TEST(Schedule, StylesMeetAtBothEnds) {
  for (const DecayStyle style :
       {DecayStyle::kOneMinusSqrt, DecayStyle::kCosine, DecayStyle::kLinear}) {
    const Schedule schedule = {.learning_rate = 1e-3,
                               .min_learning_rate = 1e-5,
                               .decay_start = 100,
                               .decay_steps = 64,
                               .style = style};
    EXPECT_DOUBLE_EQ(learning_rate(schedule, 100), 1e-3);
    EXPECT_DOUBLE_EQ(learning_rate(schedule, 164), 1e-5);
    for (int64_t s = 101; s <= 164; ++s)
      EXPECT_LT(learning_rate(schedule, s), learning_rate(schedule, s - 1)) << s;
  }
}

TEST(Schedule, StylesAtAQuarter) {
  Schedule schedule = {.learning_rate = 1, .decay_start = 0, .decay_steps = 4};
  schedule.style = DecayStyle::kOneMinusSqrt;
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1), 0.5);
  schedule.style = DecayStyle::kLinear;
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1), 0.75);
  schedule.style = DecayStyle::kCosine;
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1), (1 + std::sqrt(0.5)) / 2);
}

TEST(Schedule, IsMadeFromTheConfiguration) {
  const Schedule schedule = make_schedule({.learning_rate = 2e-4,
                                           .lr_warmup_steps = 3,
                                           .lr_decay_style = "cosine",
                                           .lr_decay_starting_step = 5,
                                           .lr_decay_steps = 7,
                                           .min_decay_lr = 1e-6});
  EXPECT_EQ(schedule.learning_rate, 2e-4);
  EXPECT_EQ(schedule.min_learning_rate, 1e-6);
  EXPECT_EQ(schedule.warmup_steps, 3);
  EXPECT_EQ(schedule.decay_start, 5);
  EXPECT_EQ(schedule.decay_steps, 7);
  EXPECT_EQ(schedule.style, DecayStyle::kCosine);
}

}  // namespace
}  // namespace trainer
