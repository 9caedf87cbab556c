// Which pairs keep their rotation: worked lists of every strategy, scores by hand, refusals.
#include "model/keep_set.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/refusal.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::expect_refusal;
using Pairs = std::vector<int32_t>;

Pairs one_head(RopeStrategy strategy, int64_t r, int64_t pairs, int64_t start = 0) {
  const auto kept = kept_pairs({strategy, r, start}, 3, pairs, nullptr);
  EXPECT_EQ(kept.size(), 3u);
  for (const Pairs& head : kept) EXPECT_EQ(head, kept[0]);
  return kept[0];
}

TEST(KeepSet, WorkedListsOfHeadDim64) {
  EXPECT_EQ(one_head(RopeStrategy::high, 4, 32), (Pairs{0, 1, 2, 3}));
  EXPECT_EQ(one_head(RopeStrategy::low, 4, 32), (Pairs{28, 29, 30, 31}));
  EXPECT_EQ(one_head(RopeStrategy::uniform, 4, 32), (Pairs{0, 8, 16, 24}));
  EXPECT_EQ(one_head(RopeStrategy::uniform, 2, 32), (Pairs{0, 16}));
  EXPECT_EQ(one_head(RopeStrategy::uniform, 8, 32), (Pairs{0, 4, 8, 12, 16, 20, 24, 28}));
  EXPECT_EQ(one_head(RopeStrategy::uniform, 8, 64), (Pairs{0, 8, 16, 24, 32, 40, 48, 56}));
  EXPECT_EQ(one_head(RopeStrategy::uniform, 4, 32, 7), (Pairs{7, 15, 23, 31}));
}

TEST(KeepSet, HighLowTakesTheOddPairFromTheHighEnd) {
  EXPECT_EQ(one_head(RopeStrategy::high_low, 1, 8), (Pairs{0}));
  EXPECT_EQ(one_head(RopeStrategy::high_low, 2, 8), (Pairs{0, 7}));
  EXPECT_EQ(one_head(RopeStrategy::high_low, 3, 8), (Pairs{0, 1, 7}));
  EXPECT_EQ(one_head(RopeStrategy::high_low, 4, 8), (Pairs{0, 1, 6, 7}));
  EXPECT_EQ(one_head(RopeStrategy::high_low, 8, 8), (Pairs{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(KeepSet, FullAndNone) {
  EXPECT_EQ(one_head(RopeStrategy::full, 4, 4), (Pairs{0, 1, 2, 3}));
  EXPECT_EQ(one_head(RopeStrategy::none, 0, 4), Pairs{});
}

TEST(KeepSet, TwoNormTakesTheLargestOfEachHead) {
  const std::vector<double> score = {1, 5, 2, 4, /**/ 9, 0, 8, 7, /**/ 3, 3, 3, 3};
  const auto kept = kept_pairs({RopeStrategy::two_norm, 2, 0}, 3, 4, score.data());
  EXPECT_EQ(kept[0], (Pairs{1, 3}));
  EXPECT_EQ(kept[1], (Pairs{0, 2}));
  EXPECT_EQ(kept[2], (Pairs{0, 1})) << "ties go to the smaller pair";
}

TEST(KeepSet, ScoresOfAGroupByHand) {
  // 2 layers, 4 query heads on 2 kv heads, 2 pairs.
  const PairNorms norms{.heads = 4,
                        .kv_heads = 2,
                        .pairs = 2,
                        .query = {1, 2, 3, 4, 5, 6, 7, 8, /**/ 1, 1, 1, 1, 2, 0, 0, 2},
                        .key = {10, 20, 30, 40, /**/ 1, 2, 3, 4}};
  EXPECT_EQ(norms.score(RopeScore::product),
            (std::vector<double>{(1 + 3) * 10, (2 + 4) * 20, (5 + 7) * 30, (6 + 8) * 40, 2 * 1,
                                 2 * 2, 2 * 3, 2 * 4}));
  EXPECT_EQ(norms.score(RopeScore::sum),
            (std::vector<double>{4 + 20, 6 + 40, 12 + 60, 14 + 80, 2 + 2, 2 + 4, 2 + 6, 2 + 8}));
}

TEST(KeepSet, EqualQueryHeadsRankLikeOneAndScalingChangesNoRank) {
  const PairNorms one{
      .heads = 1, .kv_heads = 1, .pairs = 4, .query = {4, 1, 3, 2}, .key = {1, 2, 3, 4}};
  PairNorms three = one;
  three.heads = 3;
  for (int copy = 0; copy < 2; ++copy)
    three.query.insert(three.query.end(), one.query.begin(), one.query.end());
  PairNorms scaled = one;
  for (std::vector<double>* norms : {&scaled.query, &scaled.key})
    for (double& x : *norms) x *= 0.37;
  for (const RopeScore kind : {RopeScore::product, RopeScore::sum}) {
    const RopeChoice choice{RopeStrategy::two_norm, 2, 0};
    const auto kept = kept_pairs(choice, 1, 4, one.score(kind).data());
    EXPECT_EQ(kept, kept_pairs(choice, 1, 4, three.score(kind).data()));
    EXPECT_EQ(kept, kept_pairs(choice, 1, 4, scaled.score(kind).data()));
    EXPECT_EQ(kept[0], (Pairs{2, 3}));  // products 4 2 9 8, sums 5 3 6 6
  }
}

TEST(KeepSet, NamesGoBothWays) {
  for (const char* name : {"full", "none", "high", "low", "uniform", "high-low", "2-norm"})
    EXPECT_EQ(to_string(rope_strategy_from(name)), name);
  expect_refusal(ExitCode::kBadConfig, "did you mean uniform?",
                 [] { rope_strategy_from("unifrom"); });
  expect_refusal(ExitCode::kBadConfig, "product or sum", [] { rope_score_from("mean"); });
}

TEST(KeepSet, RefusesScoresThatHaveNoOrder) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const std::vector<double> score{1, 2, 3, bad};  // in the second head
    expect_refusal(ExitCode::kNumerical, "rope.score: expected finite 2-norm scores", [&] {
      kept_pairs({RopeStrategy::two_norm, 1, 0}, 2, 2, score.data());
    });
  }
}

TEST(KeepSet, RefusesWhatDoesNotFit) {
  const auto refused = [](RopeStrategy strategy, int64_t r, const char* part, int64_t start = 0) {
    const std::vector<double> score(8, 1.0);
    expect_refusal(ExitCode::kBadConfig, part, [&] {
      kept_pairs({strategy, r, start}, 1, 8, score.data());
    });
  };
  refused(RopeStrategy::high, 9, "1 to 8");
  refused(RopeStrategy::two_norm, 9, "1 to 8");
  refused(RopeStrategy::low, -1, "1 to 8");
  refused(RopeStrategy::high, 0, "use strategy none");
  refused(RopeStrategy::full, 7, "8 (all pairs)");
  refused(RopeStrategy::none, 1, "0 with strategy none");
  refused(RopeStrategy::uniform, 3, "a divisor of 8");
  refused(RopeStrategy::uniform, 4, "0 to 1", 2);
  refused(RopeStrategy::uniform, 4, "0 to 1", -1);
}

}  // namespace
}  // namespace model
