// Where a verb's token ids come from: shards cut into disjoint windows (--data), or the tensor
// `input_ids` [B, S] of a safetensors file (--ids).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/config.h"
#include "trainer/files/ids_file.h"
#include "trainer/models/evaluate.h"
#include "trainer/ranks/session.h"

namespace trainer {

struct IdSource {
  std::vector<std::filesystem::path> data;
  std::filesystem::path ids;    // one of the two
  int64_t sequence_length = 0;  // of the windows of `data`; 0: min(1024, max_position_embeddings)
  int64_t max_windows = 0;      // of each shard; 0: all
};

bool is_given(const IdSource& source);

// The warning that `name` is a sequence length beyond the positions the model was made for; empty
// if it is not.
std::string warning_of_length(const std::string& name, int64_t sequence_length,
                              const model::LlamaConfig& config);
// Tells it of windows.
void warn_of_length(const std::vector<WindowSource>& sets, const model::LlamaConfig& config,
                    const Session& session);

// One set per shard, or the one of the ids file; every set has the same sequence length. Throws
// kUsage when the source is not exactly one of the two, kBadConfig for a length or count that
// cannot be, and what EvalWindows and read_ids throw.
std::vector<WindowSource> open_windows(const IdSource& source, const model::LlamaConfig& config);

// What the sets are, with the fingerprint of each: recorded in the statistics of a calibration.
std::string describe(const std::vector<WindowSource>& sets);

int64_t total_windows(const std::vector<WindowSource>& sets);

}  // namespace trainer
