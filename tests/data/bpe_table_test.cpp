// The tables of a tokenizer under keys that a file has chosen to collide.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "data/bpe.h"

namespace data {
namespace {

// x with factor * x == 1 modulo 2^64; every step doubles the number of bits that are right.
uint64_t inverse_of(uint64_t factor) {
  uint64_t x = factor;
  for (int i = 0; i < 6; ++i) x *= 2 - factor * x;
  return x;
}

// Pairs which a multiplication by the golden ratio, a usual hash, sends to 0, 1, ..., whose first
// bits are all the same. In a table that is a quarter full at random, a run of 256 has odds
// below 1 in 10^60.
TEST(MergeTable, ChosenPairsDoNotCollide) {
  constexpr uint64_t kKnown = 0x9E3779B97F4A7C15u;
  const uint64_t back = inverse_of(kKnown);
  ASSERT_EQ(back * kKnown, 1u);
  constexpr uint32_t kPairs = 4096;
  const auto left = [&](uint32_t i) { return static_cast<uint32_t>(i * back >> 32); };
  const auto right = [&](uint32_t i) { return static_cast<uint32_t>(i * back); };
  MergeTable table(kPairs);
  for (uint32_t i = 0; i < kPairs; ++i) table.insert_or_assign(left(i), right(i), i);
  EXPECT_LT(table.longest_run(), 256u);
  for (uint32_t i = 0; i < kPairs; ++i) ASSERT_EQ(table.rank(left(i), right(i)), i);
  EXPECT_EQ(table.rank(1, 2), MergeTable::kAbsent);
}

TEST(MergeTable, CountsTheLongestRun) {
  MergeTable table(1);  // four slots
  EXPECT_EQ(table.longest_run(), 0u);
  table.insert_or_assign(1, 2, 7);
  EXPECT_EQ(table.longest_run(), 1u);
  table.insert_or_assign(1, 2, 8);
  EXPECT_EQ(table.longest_run(), 1u);
  EXPECT_EQ(table.rank(1, 2), 8u);
}

// 16 bytes that the MurmurHash64A of libstdc++ gives the hash of every other `word`: its state
// after the first half is taken out of the second.
std::string colliding_token(uint64_t word) {
  constexpr uint64_t kMultiplier = 0xC6A4A7935BD1E995u, kSeed = 0xC70F6907u;
  const uint64_t back = inverse_of(kMultiplier);
  const auto shifted = [](uint64_t v) { return v ^ v >> 47; };  // its own inverse
  const uint64_t state =
      (kSeed ^ 16 * kMultiplier ^ shifted(word * kMultiplier) * kMultiplier) * kMultiplier;
  const uint64_t halves[] = {word, shifted(state * back) * back};
  std::string token(sizeof halves, '\0');
  std::memcpy(token.data(), halves, sizeof halves);
  return token;
}

TEST(TokenHash, TokensOfOneFileDoNotShareAHash) {
  std::set<size_t> usual, ours;
  for (uint64_t word = 0; word < 1000; ++word) {
    const std::string token = colliding_token(word);
    usual.insert(std::hash<std::string>()(token));
    ours.insert(TokenHash()(token));
  }
  ASSERT_EQ(usual.size(), 1u) << "the tokens do not do what they are made for";
  EXPECT_EQ(ours.size(), 1000u);
}

}  // namespace
}  // namespace data
