#include "data/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"
#include "tests/support/weighted_sum.h"

namespace data {
namespace {

using test_support::weighted_sum;

const std::vector<double> kPaperWeights = {0.70, 0.15, 0.08, 0.06, 0.01};

TEST(Mixture, FirstChoicesOfThePaperWeights) {
  const std::vector<int64_t> sizes(5, 1000);
  const MixtureOrder order = choose_samples(20, normalize_weights(kPaperWeights), sizes);
  EXPECT_EQ(order.dataset,
            std::vector<uint16_t>({0, 1, 0, 2, 0, 0, 3, 0, 0, 1, 0, 0, 0, 4, 0, 0, 1, 0, 0, 2}));
  EXPECT_EQ(order.sample,
            std::vector<uint32_t>({0, 0, 1, 0, 2, 3, 0, 4, 5, 1, 6, 7, 8, 0, 9, 10, 2, 11, 12, 1}));
}

TEST(Mixture, TiesGoToTheFirstDataset) {
  const std::vector<int64_t> sizes = {4, 4};
  const MixtureOrder order = choose_samples(4, normalize_weights(std::vector{1.0, 1.0}), sizes);
  EXPECT_EQ(order.dataset, std::vector<uint16_t>({0, 1, 0, 1}));
}

// The two orders below were computed with numpy by the published algorithm.
TEST(Mixture, ShuffledOrderOfNumpySmall) {
  const std::vector<int64_t> sizes = {7, 5, 4, 3, 2};
  const MixtureOrder order = mixture_order(normalize_weights(kPaperWeights), sizes, 42);
  EXPECT_EQ(order.dataset,
            std::vector<uint16_t>({0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 4, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3}));
  EXPECT_EQ(order.sample,
            std::vector<uint32_t>({0, 4, 3, 0, 5, 3, 0, 0, 5, 2, 0, 1, 1, 6, 2, 1, 4, 6, 2, 1, 0}));
}

TEST(Mixture, ShuffledOrderOfNumpyLargeWithWeightsThatSumTo115Percent) {
  const std::vector<int64_t> sizes = {4001, 907, 513, 211, 60};
  const std::vector<double> weights = normalize_weights(std::vector{0.85, 0.15, 0.08, 0.06, 0.01});
  const MixtureOrder order = mixture_order(weights, sizes, 1234);
  ASSERT_EQ(order.size(), 5692);
  EXPECT_EQ(
      std::vector<uint32_t>(order.sample.begin(), order.sample.begin() + 12),
      std::vector<uint32_t>({117, 1729, 3, 2116, 60, 3732, 2262, 3968, 1250, 96, 3965, 3200}));
  EXPECT_EQ(weighted_sum(order.dataset), 7506712);
  EXPECT_EQ(weighted_sum(order.sample), 24043630706);
  std::map<int, int> counts;
  for (const uint16_t j : order.dataset) ++counts[j];
  EXPECT_EQ(counts, (std::map<int, int>{{0, 4207}, {1, 742}, {2, 396}, {3, 297}, {4, 50}}));
}

TEST(Mixture, WeightsAreRoundedAsNumpyRoundsThem) {
  std::vector<double> ten;
  for (int k = 1; k <= 10; ++k) ten.push_back(0.1 * k + 0.013);
  const std::vector<double> normalized = {
      0.020071047957371226, 0.037833037300177626, 0.055595026642984026, 0.07335701598579042,
      0.0911190053285968,   0.10888099467140322,  0.12664298401420962,  0.144404973357016,
      0.1621669626998224,   0.17992895204262876};
  EXPECT_EQ(normalize_weights(ten), normalized);
  std::vector<double> many;
  for (int k = 0; k < 300; ++k) many.push_back(1 / (k + 3.0));
  EXPECT_EQ(normalize_weights(many)[0], many[0] / 4.789297397713862);
}

TEST(Mixture, RefusesWeightsThatMeanNothing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::vector<double>& weights :
       {std::vector{0.5, -0.1}, std::vector{0.5, nan}, std::vector{0.0, 0.0},
        std::vector{1e308, 1e308}, std::vector{std::numeric_limits<double>::infinity()}}) {
    try {
      normalize_weights(weights);
      ADD_FAILURE() << "accepted " << weights[0];
    } catch (const core::Error& error) {
      EXPECT_EQ(error.code(), core::ExitCode::kBadConfig);
    }
  }
}

TEST(Mixture, ASmallDatasetIsReadAgainFromItsStart) {
  const std::vector<int64_t> sizes = {9, 1};
  const MixtureOrder order = choose_samples(10, normalize_weights(std::vector{0.5, 0.5}), sizes);
  EXPECT_EQ(std::count(order.dataset.begin(), order.dataset.end(), 1), 5);
  for (size_t i = 0; i < 10; ++i) EXPECT_TRUE(order.dataset[i] == 0 || order.sample[i] == 0u);
}

}  // namespace
}  // namespace data
