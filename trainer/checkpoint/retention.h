// Which checkpoints of a run stay: the newest, every n-th, and those with the lowest validation
// loss.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <vector>

namespace trainer {

struct Retention {
  int64_t keep_last = 3;   // newest; at least 1. So many of each: of all, and of the scheduled ones
  int64_t keep_every = 0;  // steps: every multiple of it; 0: none
  int64_t keep_best = 0;   // lowest validation losses; of equal ones the newest
  // Steps; scheduled are its multiples, which a run that nobody stops would have, too: requests
  // must not push them out, because a rollback goes back to one. 0: all are.
  int64_t checkpoint_interval = 0;
};

// Step -> mean validation loss.
using ValidationLosses = std::map<int64_t, double>;

// Removes what the rules do not keep. To be called after a commit. Of a step without an entry in
// `losses` the checkpoint's manifest may know the loss (provenance.val_loss); one that was measured
// after the checkpoint was written is in `losses` only. Returns the steps removed.
// Throws kIo; a half removed checkpoint no longer has a checkpoint's name then.
std::vector<int64_t> apply_retention(const std::filesystem::path& directory,
                                     const Retention& retention,
                                     const ValidationLosses& losses = {});

}  // namespace trainer
