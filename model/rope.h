// Which columns rotate: frequencies of the source model, and the column plans of partial RoPE.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/kernels/rope_plan.h"
#include "model/config.h"

namespace model {

// inverse_frequencies[k], k in [0, P): theta^(-2k/D), then the scaling of the source's rope type.
std::vector<double> inverse_frequencies(const RopeParameters& rope, int64_t head_dim);

// Heads of D columns in the source's order (pair k is columns k and k + P). Head h keeps the pairs
// of kept_pairs[h / group]; each head comes out as [first halves of kept pairs, second halves, the
// rest ascending], the kept ones rotated with their original frequencies.
ag::RopePlan gather_plan(const std::vector<std::vector<int32_t>>& kept_pairs, int64_t group,
                         int64_t head_dim);

// The rotary key after conversion: its columns are already [S, S + P] per kv head, only rotated
// here.
ag::RopePlan compact_plan(const std::vector<std::vector<int32_t>>& kept_pairs);

// The columns of one head in the source's order: the rotary ones (S = `kept`, ascending, then S +
// P) and the others (ascending). Together a permutation of [0, D).
std::vector<int32_t> rotary_columns(const std::vector<int32_t>& kept, int64_t head_dim);
std::vector<int32_t> nope_columns(const std::vector<int32_t>& kept, int64_t head_dim);

}  // namespace model
