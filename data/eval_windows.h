// The evaluation protocol: a dataset cut into disjoint windows of S ids, each scored on its S - 1
// next-token targets; window i holds ids [i S, (i + 1) S) of its file, tails dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "data/shard_set.h"

namespace data {

class EvalWindows {
 public:
  // The first `max_windows` windows of a .ds file or folder; 0: all of them. Fewer are used when
  // there are fewer. Throws what ShardSet throws, kBadConfig when S < 2 or max_windows < 0.
  EvalWindows(const std::filesystem::path& path, int64_t vocab_size, int64_t sequence_length,
              int64_t max_windows = 0);

  int64_t count() const { return count_; }
  int64_t available() const { return shards_.windows(); }
  int64_t targets() const { return count_ * (sequence_length() - 1); }
  int64_t sequence_length() const { return shards_.window(); }

  // Ids of window `index` of [0, count()) to `out` [S].
  void read(int64_t index, int32_t* out) const;

  // "disjoint windows of 2048 ids, 2047 targets each, 50 windows": a perplexity is meaningless
  // without it.
  std::string protocol() const;

  std::string fingerprint() const { return shards_.fingerprint(); }

 private:
  ShardSet shards_;
  int64_t count_;
};

}  // namespace data
