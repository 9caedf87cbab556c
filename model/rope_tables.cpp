#include "model/rope_tables.h"

#include <algorithm>

#include "model/rope.h"

namespace model {

RopeTables::RopeTables(const LlamaConfig& config, ag::DType wide)
    : rope_(config.rope), head_dim_(config.head_dim), wide_(wide) {}

const ag::RopeTable& RopeTables::at(int64_t positions, int64_t text_length) {
  // Texts within the original context share their frequencies.
  const int64_t length = rope_.type == RopeParameters::Type::dynamic
                             ? std::max(text_length, rope_.original_max_position_embeddings)
                             : 0;
  if (table_.cosine.defined() && table_.cosine.rows() >= positions && length_ == length)
    return table_;
  int64_t size = 256;
  while (size < positions) size *= 2;
  table_ = ag::RopeTable::build(inverse_frequencies(rope_, head_dim_, length), size, wide_);
  length_ = length;
  return table_;
}

}  // namespace model
