// Saves checkpoints while training goes on: the state is copied at a step boundary, and a thread
// writes, verifies and commits the copy, then removes what retention does not keep.
//
//   main thread   copy(), write(): + hash | steps ...                   | poll(): what became of it
//   writer        idle                 | write, read back, commit, retire | idle
//
// While a save is in flight the thread is the only user of HDF5 in the process.
#pragma once

#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/checkpoint/state_snapshot.h"

namespace trainer {

// What became of a save. Invariant: after a failure every earlier checkpoint is as it was.
struct SaveOutcome {
  int64_t step = 0;
  std::optional<SavedCheckpoint> saved;  // or
  std::exception_ptr error;
  std::vector<int64_t> removed;  // steps that retention removed
  std::string warning;           // retention failed; the checkpoint is safe
  double seconds = 0;            // from write() to the end
};

class CheckpointWriter {
 public:
  // Reserves the memory of one copy of `registry`, which must outlive the writer, and proves that
  // `directory` can be written: kIo, kPermission, kOutOfMemory.
  CheckpointWriter(std::filesystem::path directory, const StateRegistry& registry,
                   const Retention& retention);
  // Lets a save in flight end.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Returns as soon as the state is copied. Requires: the outcome of the save before was taken.
  void copy(CheckpointRequest request);
  // Where gather_dealt() completes the copy; nothing to do when nothing is dealt.
  StateSnapshot& snapshot() { return snapshot_; }
  // Lets the thread write the copy. Requires: it is whole.
  void write();
  // Both, for a state that one rank has whole.
  void start(CheckpointRequest request) {
    copy(std::move(request));
    write();
  }
  // The outcome of a save that has ended, once.
  std::optional<SaveOutcome> poll();
  // Waits for the save in flight; nullopt when there is none.
  std::optional<SaveOutcome> wait();

 private:
  enum class Phase { idle, saving, ended };

  void thread_main();
  SaveOutcome save() noexcept;

  std::filesystem::path directory_;
  const StateRegistry& registry_;
  Retention retention_;
  StateSnapshot snapshot_;     // of the thread while saving, of the caller otherwise
  CheckpointRequest request_;  // likewise

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Phase phase_ = Phase::idle;
  bool quit_ = false;
  SaveOutcome outcome_;
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace trainer
