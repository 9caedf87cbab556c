// The one attention of all models, as data: MHA, GQA, MLA with rotary keys per kv head or shared.
#pragma once

#include <cstdint>
#include <vector>

namespace ag {

// Query head h reads kv head g = h / (heads / kv_heads). A query row of head h is
// q[:, h * head_dim ...], its first rope_width[g] elements meet the rotary part of the key, the
// rest the NoPE part:
//   score = scale * ( q[0 : w] . k_rope[:, rope_begin[g] : + w]
//                   + q[w : head_dim] . k_nope[:, nope_begin[g] : + head_dim - w] ),  w =
//                   rope_width[g].
// Rotary keys shared by all heads (DeepSeek) have rope_begin all 0. Dense keys are all "rope" part:
// rope_width[g] = head_dim, rope_begin[g] = g * head_dim, no k_nope.
struct AttentionShape {
  int64_t batch = 0;      // B
  int64_t queries = 0;    // Tq tokens per sequence that ask
  int64_t keys = 0;       // Tk tokens per sequence that answer; query i sees keys [0, Tk - Tq + i]
  int64_t heads = 0;      // H
  int64_t kv_heads = 0;   // G
  int64_t head_dim = 0;   // D of q and of the joined key
  int64_t value_dim = 0;  // columns of v per kv head
  double scale = 1;
  std::vector<int64_t> rope_begin, rope_width, nope_begin;  // one per kv head
};

}  // namespace ag
