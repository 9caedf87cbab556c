// Names of what a killed process leaves, and nothing else:
//   .tmp-TAG-NONCE, .trash-TAG-NONCE (.old)   folders on their way in or out; TAG: a step or "model"
//   NAME.tmp.PID                              a file that core::AtomicFile was writing
#pragma once

#include <string_view>

namespace trainer {

// A folder of trainer/checkpoint/folder.h that was never committed, or was being removed.
bool is_abandoned_folder(std::string_view name);

// The temporary file, of whatever process, of a file that this program keeps in a run.
bool is_abandoned_file(std::string_view name);

}  // namespace trainer
