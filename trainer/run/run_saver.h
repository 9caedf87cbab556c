// The checkpoints of a run in progress, for all ranks: rank 0 writes them beside training, and what
// became of a save is told to every rank at the next boundary between two steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trainer/checkpoint/writer.h"
#include "trainer/files/log.h"
#include "trainer/ranks/comm.h"

namespace trainer {

struct RunSaverOptions {
  std::filesystem::path directory;
  Retention retention;
  int64_t max_failed_saves = 3;  // in a row
  // Rank 0, before a checkpoint is written: whether it may be, and what must be on the disk with
  // it. A resume takes it as soon as it is there, acknowledged or not.
  std::function<void()> before_writing;
  // Rank 0, after it was acknowledged.
  std::function<void(const SaveOutcome&)> acknowledged;
};

class RunSaver {
 public:
  // Collective. Keeps references; the registry is that of the run's trainer.
  RunSaver(Comm& comm, const Log& log, const StateRegistry& registry, RunSaverOptions options);

  // The run goes on from `checkpoint` of `step` (empty: from its beginning).
  void resume_from(int64_t step, const std::string& checkpoint);

  // Collective. Copies the state of `step` and lets it be written, after the save before has ended.
  // What all ranks have must be the same (kReplicasDiffer). A step that was saved, or is being
  // saved, is not saved again. `request` is asked for on rank 0; its step and parent are filled in.
  void save(int64_t step, const std::function<CheckpointRequest()>& request);

  // Bits for the word that the ranks exchange at a boundary: what rank 0 has learned of a save.
  uint64_t poll();
  // Collective: with the word of all ranks. Throws AgreedError when saving has failed for good.
  void agree(uint64_t word);

  // Collective. Waits for the save in flight. `must_succeed`: nothing that could replace it comes
  // after it, and a failure is thrown.
  void settle(bool must_succeed);

  // Lets a save in flight end, whatever becomes of it: for a run that has failed.
  void await_save_in_flight();

  // The newest checkpoint that is known to be durable; rank 0 only, empty if there is none.
  const std::string& committed() const { return committed_; }

 private:
  bool root() const { return comm_.rank() == 0; }
  void record(const SaveOutcome& outcome, bool must_succeed);

  Comm& comm_;
  const Log& log_;
  const StateRegistry& registry_;
  RunSaverOptions options_;
  std::unique_ptr<CheckpointWriter> writer_;  // rank 0 only
  int64_t saved_step_ = -1;                   // saved or in flight; equal on all ranks
  // Rank 0 only:
  std::string committed_, parent_;  // the newest durable checkpoint, and its manifest's hash
  int64_t failed_saves_ = 0;        // in a row
  std::optional<core::Error> failure_;
};

}  // namespace trainer
