// Training samples of S + 1 tokens from a weighted mixture of datasets, in nanotron's exact order
// (mixture.h), repeated every epoch. Sample i is a function of the configuration and i alone: any
// rank may ask for any sample, and nothing has to be replayed on resume.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/mixture.h"
#include "data/shard_set.h"

namespace data {

struct NanosetConfig {
  std::vector<std::filesystem::path> folders;  // or .ds files
  std::vector<double> weights;  // one per folder, normalised here; empty: by number of samples
  int64_t sequence_length = 0;  // S
  int64_t seed = 0;             // [0, 2^32)
  int64_t vocab_size = 0;       // every id is checked against it
  int64_t samples_needed = 0;   // of the run (or stage)
};

class Nanoset {
 public:
  // Throws kBadConfig for wrong weights, seed or lengths, kMissingInput / kBadData for the shards,
  // and kBadData when a file is listed twice.
  explicit Nanoset(const NanosetConfig& config);

  int64_t sequence_length() const { return sequence_length_; }
  int64_t samples_per_epoch() const { return order_.size(); }
  int64_t samples_needed() const { return samples_needed_; }
  double epochs() const;  // samples_needed / samples_per_epoch

  // Sample `index` of [0, samples_needed()) to `out` [S + 1].
  void sample(int64_t index, int32_t* out) const;

  // Which dataset sample `index` comes from, and which of its samples it is.
  struct Origin {
    int64_t dataset, sample;
  };
  Origin origin(int64_t index) const;

  const std::vector<ShardSet>& datasets() const { return datasets_; }
  const std::vector<double>& weights() const { return weights_; }  // normalised

  // Scans every token of every shard; throws kBadData at the first id >= vocab_size.
  void check_vocab(int64_t vocab_size) const;

  // Everything the samples depend on, for people and provenance: paths, sizes, tokens, weights.
  nlohmann::json describe() const;

  // XXH3-128 of all that decides sample i, for a checkpoint: contents (not paths), weights, S,
  // seed.
  std::string fingerprint() const;

 private:
  void refuse_files_listed_twice() const;
  std::vector<double> resolve_weights(const std::vector<double>& given) const;

  int64_t sequence_length_, samples_needed_;
  uint32_t seed_;
  std::vector<ShardSet> datasets_;
  std::vector<double> weights_;
  MixtureOrder order_;
};

}  // namespace data
