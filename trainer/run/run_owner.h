// Whether somebody still works in a run folder: a process that was killed leaves status.json as it
// was. Looks only; taking the lock to find out would keep a run from starting.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace trainer {

struct RunOwner {
  enum class State {
    kUnknown,    // no run.lock, or not one of ours
    kAlive,      // on this host, with run.lock open
    kGone,       // it was on this host
    kElsewhere,  // on another host, which cannot be asked
  };
  State state = State::kUnknown;
  std::string host;
  int64_t pid = 0;
  double seconds_since_update = 0;  // of the newest of the files that a run keeps writing
};

// Nothing in the folder is trusted: what cannot be read or understood is kUnknown.
RunOwner find_owner(const std::filesystem::path& run_folder);

// "alive", "gone", "elsewhere", "unknown".
std::string name_of(RunOwner::State state);

}  // namespace trainer
