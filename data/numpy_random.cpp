#include "data/numpy_random.h"

#include <array>
#include <cstddef>
#include <numeric>

namespace data {
namespace {

constexpr size_t kPoolWords = 4;

// SeedSequence(seed).generate_state(4, uint64): the seed's 32-bit words are hashed into a pool of
// four, every pool word is mixed into every other, and the pool is hashed out again.
std::array<uint64_t, 4> seed_sequence(uint64_t seed) {
  const std::array<uint32_t, kPoolWords> entropy = {static_cast<uint32_t>(seed),
                                                    static_cast<uint32_t>(seed >> 32), 0, 0};
  uint32_t hash = 0x43b0d7e5;
  const auto hash_in = [&hash](uint32_t value) {
    value ^= hash;
    hash *= 0x931e8875;
    value *= hash;
    return value ^ value >> 16;
  };
  const auto mix = [](uint32_t x, uint32_t y) {
    const uint32_t r = 0xca01f9dd * x - 0x4973f715 * y;
    return r ^ r >> 16;
  };
  std::array<uint32_t, kPoolWords> pool{};
  for (size_t i = 0; i < kPoolWords; ++i) pool[i] = hash_in(entropy[i]);
  for (size_t from = 0; from < kPoolWords; ++from)
    for (size_t to = 0; to < kPoolWords; ++to)
      if (from != to) pool[to] = mix(pool[to], hash_in(pool[from]));

  uint32_t hash_out = 0x8b51f9dd;
  std::array<uint64_t, 4> state{};
  for (size_t i = 0; i < 8; ++i) {
    uint32_t word = pool[i % kPoolWords] ^ hash_out;
    hash_out *= 0x58f38ded;
    word *= hash_out;
    word ^= word >> 16;
    state[i / 2] |= uint64_t{word} << (32 * (i % 2));
  }
  return state;
}

}  // namespace

DefaultRng::DefaultRng(uint64_t seed) {
  const std::array<uint64_t, 4> s = seed_sequence(seed);
  increment_ = (Uint128{s[2]} << 64 | s[3]) << 1 | 1;
  step();
  state_ += Uint128{s[0]} << 64 | s[1];
  step();
}

void DefaultRng::step() {
  constexpr Uint128 kMultiplier = Uint128{0x2360ed051fc65da4} << 64 | 0x4385df649fccf645;
  state_ = state_ * kMultiplier + increment_;
}

uint64_t DefaultRng::next_uint64() {
  step();
  const auto high = static_cast<uint64_t>(state_ >> 64);
  return std::rotr(high ^ static_cast<uint64_t>(state_), static_cast<int>(high >> 58));
}

uint32_t DefaultRng::next_uint32() {
  if (has_high_half_) {
    has_high_half_ = false;
    return high_half_;
  }
  const uint64_t draw = next_uint64();
  has_high_half_ = true;
  high_half_ = static_cast<uint32_t>(draw >> 32);
  return static_cast<uint32_t>(draw);
}

std::vector<uint64_t> DefaultRng::permutation(uint64_t n) {
  std::vector<uint64_t> order(n);
  std::iota(order.begin(), order.end(), uint64_t{0});
  shuffle_with(*this, std::span(order));
  return order;
}

}  // namespace data
