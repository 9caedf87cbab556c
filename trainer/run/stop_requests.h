// Where requests to stop or to save come from: signals, files that a user creates in the run's
// folder, the time limit. What was asked for is kept in core/stop.h.
//   USR1 TERM INT HUP XCPU, RUN/STOP, max_time: save a checkpoint and exit with 75
//   USR2, RUN/SAVE:                             save a checkpoint and go on
#pragma once

#include <chrono>
#include <filesystem>

namespace trainer {

// Call before MPI_Init, which takes a while, and again after it, because MPI installs handlers of
// its own. A second INT or TERM ends the process at once with 130. PIPE and XFSZ are ignored: a
// closed pipe or a file that grew too large is an error of one write. An INT or HUP that is ignored
// already (nohup, a shell's background job) stays ignored.
void install_signal_handlers();

class StopRequests {
 public:
  // `run_folder` is where STOP and SAVE are looked for; empty (ranks above 0): nowhere.
  // `max_time` counts from `start`; 0: no limit. Sets the process's deadline.
  StopRequests(std::filesystem::path run_folder, std::chrono::duration<double> max_time,
               std::chrono::steady_clock::time_point start);

  // What was asked of this rank so far, as core::StopBit; once per step. Removes trigger files that
  // it sees; one that cannot be removed counts once.
  unsigned poll();

 private:
  struct TriggerFile {
    std::filesystem::path path;
    unsigned bit = 0;
    bool stuck = false;
  };
  static void look_for(TriggerFile& file);

  TriggerFile stop_, save_;
};

}  // namespace trainer
