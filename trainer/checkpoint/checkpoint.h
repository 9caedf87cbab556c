// Checkpoints of a run: checkpoints/step-000001200/, each complete, verified when written and again
// before use. Format: docs/checkpoint_format.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/checkpoint/state_registry.h"
#include "trainer/files/manifest.h"

namespace trainer {

struct CheckpointRequest {
  int64_t step = 0;
  std::string config;  // resolved
  nlohmann::json provenance = nlohmann::json::object();
  std::vector<Companion> companions;  // config.json, tokenizer.json, ...
  uint64_t bytes_per_file = kBytesPerFile;
  // Called before anything is made, before the commit and after a failure; throws when the folder is
  // no longer this run's. Any thread.
  std::function<void()> require_place = [] {};
  ValidationLosses validation_losses = {};  // of the run until now, for retention
};

struct SavedCheckpoint {
  std::filesystem::path path;
  std::string manifest_hash;
};

// Returns when the checkpoint is durable. A checkpoint of the same step that is already there (from
// before a run was set back) is exchanged for the new one. Failure leaves `directory` as it was:
// kIo when the disk is full, naming the bytes needed and free.
// kNumerical when the state holds a NaN or infinity: it is never saved.
SavedCheckpoint save_checkpoint(const std::filesystem::path& directory, const StateView& state,
                                const CheckpointRequest& request);

// The manifest of a whole checkpoint; throws as verify_folder() does, kBadData also when the step
// is not the folder's.
Manifest verify_checkpoint(const std::filesystem::path& path, bool full);

// Fills the registry in place. Requires: `path` was verified. Throws kNoValidCheckpoint naming an
// entry that only one side has, kBadConfig for another shape, dtype or constant; nothing is loaded
// then.
Manifest load_checkpoint(const std::filesystem::path& path, StateRegistry& registry);

// Where the checkpoint of a step is, or would be.
std::filesystem::path checkpoint_path(const std::filesystem::path& directory, int64_t step);

struct CheckpointPath {
  int64_t step;
  std::filesystem::path path;
};
// step-* folders, newest first; anything else is ignored.
std::vector<CheckpointPath> find_checkpoints(const std::filesystem::path& directory);

struct ValidCheckpoint {
  int64_t step;
  std::filesystem::path path;
  Manifest manifest;
  std::vector<std::string> warnings;  // one line per invalid newer checkpoint
};

enum class Invalid {
  quarantine,  // moved to quarantine/ with the reason beside it; for the owner of the run's lock
  leave,
};

// The newest valid checkpoint, fully verified; nullopt if there is none at all. Throws
// kNoValidCheckpoint, having moved nothing, when none of those there is valid, and when only
// quarantine/ has any: a run never starts anew by itself. Throws kIo, having moved nothing, when
// one cannot be read.
std::optional<ValidCheckpoint> newest_valid(const std::filesystem::path& directory,
                                            Invalid invalid);
// The same among the checkpoints whose step is wanted; nullopt also when none of them is valid.
std::optional<ValidCheckpoint> newest_valid(const std::filesystem::path& directory, Invalid invalid,
                                            const std::function<bool(int64_t)>& wanted);

// Moves the checkpoints after `step` to quarantine/, of which the run was set back to `step`: their
// numbers will come again, and until then they would pass for the newest. One line per checkpoint.
std::vector<std::string> set_aside_newer(const std::filesystem::path& directory, int64_t step);

// Removes what dead writers left in a run's folder or in its checkpoints/: .tmp-STEP-NONCE,
// .trash-STEP-NONCE, .tmp-model-NONCE, and NAME.tmp.PID of the files that a run replaces as a
// whole; nothing else. For the owner of the run's lock. Returns the names.
std::vector<std::string> remove_leftovers(const std::filesystem::path& directory);

}  // namespace trainer
