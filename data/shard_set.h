// The shards of one dataset, cut into windows of W tokens: file by file, no overlap, tails dropped.
// A folder's files are its *.ds (not of subfolders) in datatrove's order:
//   sorted by name, then permuted by default_rng(42).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/shard.h"

namespace data {

// The files of a dataset in reading order. `path` is a .ds file or a folder of them. Throws
// kMissingInput, with the command to run, when there are none.
std::vector<std::filesystem::path> list_shards(const std::filesystem::path& path);

class ShardSet {
 public:
  // Throws what list_shards and Shard throw, and kBadData when no file holds one window.
  ShardSet(const std::filesystem::path& path, int64_t window, int64_t vocab_size);

  int64_t windows() const { return first_window_.back(); }
  int64_t window() const { return window_; }
  int64_t tokens() const;
  const std::vector<Shard>& shards() const { return shards_; }

  // Window `index` of [0, windows()) to `out` [window].
  void read(int64_t index, int32_t* out) const;

  void check_vocab(int64_t vocab_size) const;

  // Path, and of each file: name, bytes, tokens, windows, fingerprint.
  nlohmann::json describe() const;

  // XXH3-128 over the fingerprints of the files in reading order; the folder may be moved.
  std::string fingerprint() const;

 private:
  std::filesystem::path path_;
  int64_t window_;
  std::vector<Shard> shards_;
  std::vector<int64_t> first_window_;  // of each shard, then the number of all
};

}  // namespace data
