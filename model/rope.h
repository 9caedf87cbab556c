// Which columns rotate: frequencies of the source model, and the column plans of partial RoPE.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/kernels/rope_plan.h"
#include "model/config.h"

namespace model {

// inverse_frequencies[k], k in [0, P): theta^(-2k/D), then the scaling of the source's rope type.
// `text_length`: what the frequencies of dynamic rope depend on; the other types do not read it.
//
// Dynamic rope raises theta once a text is longer than the model's own context. Which length that
// is, follows transformers: in a pass over whole texts all ids of a text (T; T + 1 where a loss is
// taken, whose last target belongs to the text), in decoding the ids read so far. Keys in the cache
// stay as they were turned when they were read, so a text that outgrows the context while it is
// decoded differs from the same text in one pass. Up to that context this is the standard rope, bit
// for bit.
std::vector<double> inverse_frequencies(const RopeParameters& rope, int64_t head_dim,
                                        int64_t text_length);

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
