#include "chart/axis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace chart {
namespace {

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> all;
  for (const Tick& tick : axis.ticks) all.push_back(tick.label);
  return all;
}

TEST(AxisTest, TicksAreRoundAndCoverTheValues) {
  const Axis axis = make_axis({0.3, 146}, false, 6);
  EXPECT_EQ(labels(axis), (std::vector<std::string>{"0", "50", "100", "150"}));
  EXPECT_DOUBLE_EQ(axis.place(0), 0);
  EXPECT_DOUBLE_EQ(axis.place(75), 0.5);
  EXPECT_EQ(labels(make_axis({2.9, 4.4}, false, 5)),
            (std::vector<std::string>{"2.5", "3", "3.5", "4", "4.5"}));
}

TEST(AxisTest, LogarithmicTicksArePowersOfTen) {
  const Axis axis = make_axis({0.02, 30000}, true, 7);
  EXPECT_EQ(labels(axis),
            (std::vector<std::string>{"0.01", "0.1", "1", "10", "100", "1000", "10k", "100k"}));
  EXPECT_NEAR(axis.place(std::sqrt(0.01 * 100000)), 0.5, 1e-12);
  EXPECT_EQ(labels(make_axis({1, 90}, true, 5)),
            (std::vector<std::string>{"1", "2", "5", "10", "20", "50", "100"}));
  EXPECT_EQ(labels(make_axis({14.6, 62}, true, 5)),
            (std::vector<std::string>{"10", "20", "50", "100"}));
  EXPECT_EQ(labels(make_axis({0.2, 0.7}, true, 5)), (std::vector<std::string>{"0.2", "0.5", "1"}));
}

TEST(AxisTest, LogarithmicAxisFallsBackWhereItHasNoSense) {
  EXPECT_FALSE(make_axis({20, 30}, true, 5).logarithmic);
  EXPECT_FALSE(make_axis({0, -1}, true, 5).logarithmic);
}

TEST(AxisTest, ValuesTooSmallForTicksAreZero) {
  for (const std::vector<double>& values :
       {std::vector<double>{1e-322}, {0, 5e-324}, {-1e-310, 1e-310}}) {
    EXPECT_EQ(labels(make_axis(values, false, 5)), labels(make_axis({0}, false, 5)));
    EXPECT_EQ(labels(make_axis(values, true, 5)), labels(make_axis({0}, true, 5)));
  }
}

TEST(AxisTest, OneValueLiesInTheMiddle) {
  for (const double value : {0.0, 3.5, -2.0, 1e-300, 1e99}) {
    const Axis axis = make_axis({value, value}, false, 5);
    EXPECT_LT(axis.low, axis.high) << value;
    EXPECT_GE(axis.place(value), 0) << value;
    EXPECT_LE(axis.place(value), 1) << value;
    EXPECT_LT(axis.ticks.size(), 20U) << value;
  }
}

TEST(AxisTest, WhatCannotBeShownPlaysNoRole) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const Axis axis = make_axis({std::nan(""), kInf, -kInf, 1e300, 0, 10}, false, 5);
  EXPECT_EQ(axis.low, 0);
  EXPECT_EQ(axis.high, 10);
  EXPECT_EQ(make_axis({}, true, 5).high, 1);
}

TEST(AxisTest, WidestRangeThatCanBeShownHasFewTicks) {
  EXPECT_LT(make_axis({-1e100, 1e100}, false, 5).ticks.size(), 20U);
  EXPECT_LT(make_axis({1e-100, 1e100}, true, 5).ticks.size(), 20U);
}

}  // namespace
}  // namespace chart
