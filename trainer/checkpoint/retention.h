// Which checkpoints of a run stay: the newest, every n-th, and those with the lowest validation
// loss. Their manifests say what loss was measured at their step (provenance.val_loss).
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace trainer {

struct Retention {
  int64_t keep_last = 3;   // newest; at least 1
  int64_t keep_every = 0;  // steps: every multiple of it; 0: none
  int64_t keep_best = 0;   // lowest validation losses; of equal ones the newest
};

// Removes what the rules do not keep. To be called after a commit. Returns the steps removed.
// Throws kIo; a half removed checkpoint no longer has a checkpoint's name then.
std::vector<int64_t> apply_retention(const std::filesystem::path& directory,
                                     const Retention& retention);

}  // namespace trainer
