// The two numpy generators that fix the order of Nanoset data, bit for bit:
//   RandomState(seed):  MT19937 seeded by init_genrand; shuffles samples.
//   default_rng(seed):  SeedSequence -> PCG64 (XSL-RR 128/64); permutes the files of a folder.
// Both draw a bounded integer by masked rejection and shuffle by Fisher-Yates from the end.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace data {

// Uniform in [0, max]: draws are masked to the bits of `max` and rejected above it. Up to 32 bits a
// draw is one 32-bit word, beyond it one 64-bit word, as in numpy.
template <class Generator>
uint64_t bounded_draw(Generator& generator, uint64_t max) {
  if (max == 0) return 0;
  const uint64_t mask = ~uint64_t{0} >> std::countl_zero(max);
  uint64_t value;
  do {
    value = (max <= UINT32_MAX ? generator.next_uint32() : generator.next_uint64()) & mask;
  } while (value > max);
  return value;
}

template <class Generator, class T>
void shuffle_with(Generator& generator, std::span<T> items) {
  for (uint64_t i = items.size(); i-- > 1;) std::swap(items[i], items[bounded_draw(generator, i)]);
}

// numpy.random.RandomState(seed) for an integer seed.
class RandomState {
 public:
  explicit RandomState(uint32_t seed) : engine_(seed) {}

  uint32_t next_uint32() { return static_cast<uint32_t>(engine_()); }
  uint64_t next_uint64() {
    const uint64_t high = next_uint32();
    return high << 32 | next_uint32();
  }

  template <class T>
  void shuffle(std::span<T> items) {
    shuffle_with(*this, items);
  }

 private:
  std::mt19937 engine_;  // the standard fixes seeding and output to those of init_genrand
};

// numpy.random.default_rng(seed) for an integer seed.
class DefaultRng {
 public:
  explicit DefaultRng(uint64_t seed);

  uint64_t next_uint64();
  uint32_t next_uint32();  // the low half of a 64-bit draw, then its high half

  // permutation(n): the integers 0..n-1, shuffled.
  std::vector<uint64_t> permutation(uint64_t n);

 private:
  __extension__ using Uint128 = unsigned __int128;

  void step();

  Uint128 state_ = 0, increment_ = 0;
  bool has_high_half_ = false;
  uint32_t high_half_ = 0;
};

}  // namespace data
