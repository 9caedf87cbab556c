// Golden values from numpy itself.
#include "data/numpy_random.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/weighted_sum.h"

namespace data {
namespace {

using test_support::weighted_sum;

using Order = std::vector<uint64_t>;

std::vector<int64_t> shuffled(uint32_t seed, size_t n) {
  std::vector<int64_t> items(n);
  std::iota(items.begin(), items.end(), 0);
  RandomState(seed).shuffle(std::span(items));
  return items;
}

TEST(NumpyRandom, PermutationsOfSeed42) {
  EXPECT_EQ(DefaultRng(42).permutation(0), Order());
  EXPECT_EQ(DefaultRng(42).permutation(1), Order({0}));
  EXPECT_EQ(DefaultRng(42).permutation(2), Order({1, 0}));
  EXPECT_EQ(DefaultRng(42).permutation(3), Order({2, 1, 0}));
  EXPECT_EQ(DefaultRng(42).permutation(4), Order({3, 2, 1, 0}));
  EXPECT_EQ(DefaultRng(42).permutation(5), Order({4, 2, 3, 1, 0}));
  EXPECT_EQ(DefaultRng(42).permutation(8), Order({3, 4, 2, 7, 6, 1, 5, 0}));
  EXPECT_EQ(DefaultRng(42).permutation(10), Order({5, 6, 0, 7, 3, 2, 4, 9, 1, 8}));
  EXPECT_EQ(DefaultRng(42).permutation(20),
            Order({15, 9, 14, 7, 12, 10, 6, 19, 3, 0, 16, 5, 11, 18, 2, 4, 17, 1, 13, 8}));
  const Order thousand = DefaultRng(42).permutation(1000);
  EXPECT_EQ(Order(thousand.begin(), thousand.begin() + 8),
            Order({978, 933, 859, 916, 127, 608, 856, 260}));
  EXPECT_EQ(weighted_sum(thousand), 248321539);
}

TEST(NumpyRandom, PermutationsOfOtherSeeds) {
  EXPECT_EQ(DefaultRng(0).permutation(12), Order({9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1}));
  EXPECT_EQ(DefaultRng((uint64_t{1} << 32) + 5).permutation(12),
            Order({6, 9, 5, 8, 2, 4, 7, 0, 11, 10, 3, 1}));
  EXPECT_EQ(DefaultRng(UINT64_MAX).permutation(9), Order({8, 7, 3, 0, 4, 6, 1, 2, 5}));
}

TEST(NumpyRandom, ShufflesOfRandomState) {
  using Items = std::vector<int64_t>;
  EXPECT_EQ(shuffled(1234, 20),
            Items({3, 13, 2, 16, 14, 5, 4, 0, 8, 18, 17, 11, 10, 9, 7, 1, 19, 12, 6, 15}));
  EXPECT_EQ(shuffled(42, 20),
            Items({0, 17, 15, 1, 8, 5, 11, 3, 18, 16, 13, 2, 9, 19, 4, 12, 7, 10, 14, 6}));
  EXPECT_EQ(shuffled(0, 20),
            Items({18, 1, 19, 8, 10, 17, 6, 13, 4, 2, 5, 14, 9, 7, 16, 11, 3, 0, 15, 12}));
  EXPECT_EQ(shuffled(4294967295, 20),
            Items({11, 17, 19, 15, 1, 5, 8, 16, 13, 18, 14, 9, 10, 6, 0, 4, 7, 12, 2, 3}));
  const Items many = shuffled(42, 100000);
  EXPECT_EQ(Items(many.begin(), many.begin() + 8),
            Items({75721, 80184, 19864, 76699, 92991, 76434, 84004, 80917}));
  EXPECT_EQ(weighted_sum(many), 249851129327323);
}

// Counts how wide the draws are, and returns what it is told.
struct Scripted {
  uint64_t value;
  int draws32 = 0, draws64 = 0;
  uint32_t next_uint32() { return ++draws32, static_cast<uint32_t>(value); }
  uint64_t next_uint64() { return ++draws64, value; }
};

TEST(NumpyRandom, BoundedDrawMasksToTheBitsOfTheBound) {
  Scripted narrow{.value = 0xFFFFFF05};
  EXPECT_EQ(bounded_draw(narrow, 6), 5u);
  Scripted widest32{.value = 0xFFFFFFFF};
  EXPECT_EQ(bounded_draw(widest32, UINT32_MAX), UINT32_MAX);
  EXPECT_EQ(widest32.draws64, 0);
  Scripted wide{.value = 0xF000000100000000};
  EXPECT_EQ(bounded_draw(wide, uint64_t{1} << 33), uint64_t{1} << 32);
  EXPECT_EQ(wide.draws32, 0);
}

}  // namespace
}  // namespace data
