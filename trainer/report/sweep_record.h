// What a sweep folder says of its trials (docs/sweeps.md), read without trust.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/report/run_record.h"

namespace trainer {

struct TrialRecord {
  std::string id, state, message;
  bool baseline = false;
  std::string strategy, method;  // empty for a baseline
  double pairs_per_head = 0, latent_dims_per_kv_head = 0;
  double cache_before = 0, cache_after = 0;       // bytes per token
  double steps = 0, tokens = 0, seconds = 0;      // NaN here and below: not known
  double source_loss = 0, before = 0, after = 0;  // mean validation loss, nats per token
};

struct SweepRecord {
  std::filesystem::path path;
  std::string name;
  std::vector<TrialRecord> trials;
  std::vector<RunRecord> runs;     // of the trials, those that can be read
  std::vector<std::string> notes;  // on those that cannot
};

bool is_sweep(const std::filesystem::path& path);

// Throws kMissingInput or kBadData for a sweep.json that cannot be read or lists no trial.
SweepRecord read_sweep(const std::filesystem::path& path);

}  // namespace trainer
