// Partial RoPE as data: which columns turn together, with which original frequency, and where the
// others go. A plan is a permutation of the columns of one token, so its transpose undoes it.
#pragma once

#include <cstdint>
#include <vector>

namespace ag {

// y[out_a] = x[in_a] cos - x[in_b] sin,  y[out_b] = x[in_b] cos + x[in_a] sin,
// with cos, sin of (position * inverse frequency of pair `frequency`).
struct RopePair {
  int32_t in_a, in_b, out_a, out_b, frequency;
};

// `count` columns that pass through unrotated.
struct RopeCopy {
  int32_t in, out, count;
};

// Invariant: every column of [0, columns) is written exactly once and read exactly once.
struct RopePlan {
  int64_t columns = 0;
  std::vector<RopePair> pairs;
  std::vector<RopeCopy> copies;
};

}  // namespace ag
