// A run from its configuration to its result: folder and lock, source or conversion or checkpoint,
// the loop with validation, log and checkpoints. The verb `train` is this, and no more.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/files/log.h"
#include "trainer/ranks/session.h"
#include "trainer/run/metrics_copies.h"
#include "trainer/run/prepare.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/run_saver.h"
#include "trainer/run/run_status.h"
#include "trainer/run/step_log.h"
#include "trainer/run/stop_requests.h"
#include "trainer/run/train_options.h"
#include "trainer/run/watchdog.h"
#include "trainer/step/trainer.h"

namespace trainer {

class TrainingRun {
 public:
  // `config` is merged and checked. Fixes the number of threads.
  TrainingRun(Config config, const TrainOptions& options, Session& session);

  // Collective. Trains until train_steps and returns what result.json holds:
  //   run, steps, tokens, tokens_per_second, seconds, parameters, validation.{source, converted |
  //   start, recovered}.SET.{nll, ppl, tokens}, protocol, cache_bytes_per_token.{before, after},
  //   parity.
  // A finished run is not run again: its result.json comes back as it was, unless other validation
  // is asked for. A failure is left in status.json: state, exit_code, message.
  nlohmann::json execute();

 private:
  nlohmann::json run();
  // Everything before the first step; ends early for a run that is finished already.
  void set_up();
  // Rank 0 owns the folder; the others know its path.
  void open_folder();
  void open_log();
  void start_watchdog();
  // The checkpoint to start from, agreed by all ranks; empty: from the source.
  fs::path choose_checkpoint();
  void check_resumable(const Manifest& manifest);
  // What an earlier process left: result.json of a finished run, the log up to `checkpoint`.
  void read_earlier_result(const fs::path& checkpoint);
  void load(const fs::path& checkpoint);
  void make_saver(const fs::path& checkpoint);
  void continue_metrics(const fs::path& checkpoint);
  void banner(const PreparedModel& prepared) const;

  // training_loop.cpp
  void loop();
  StepReport step();
  void after_step(const StepReport& report);
  void log_step(const StepReport& report);
  // A validation that a request to stop ended leaves no trace: it is repeated after resuming.
  void validate();
  // What any rank was asked for, on all ranks; also where a failed save of rank 0 becomes known.
  unsigned agree_on_requests();
  // Ends the run with kPreempted; the checkpoint, if there is one, is durable then.
  [[noreturn]] void stop(unsigned asked);
  void save();
  CheckpointRequest checkpoint_request() const;
  // To a checkpoint from before the bad step, which is left out from there on.
  void roll_back(const StepReport& report);
  std::string choose_rollback(int64_t bad_step);
  // Rank 0; a log or status that cannot be written is a warning, and the lines wait.
  void append_metrics(const nlohmann::json& line);
  void continue_copies(int64_t resumed_step);
  void copy_metrics(const std::function<void()>& copy);
  void write_status(const char* state);
  void sync_metrics();
  void warn_once(bool& warned, const core::Error& error);
  void flush_metrics();

  // run_result.cpp
  nlohmann::json finish();
  nlohmann::json finish_again();
  void say_done(const nlohmann::json& outcome);
  nlohmann::json result() const;
  void record_failure(const core::Error& error) const;
  void await_save_in_flight();
  Watchdog::Phase phase(const std::string& name, int64_t limit_seconds);
  Watchdog::Phase boundary_phase(const std::string& name);

  bool root() const { return session_.comm.rank() == 0; }

  Config config_;
  const TrainOptions& options_;
  Session& session_;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<RunStatus> status_;
  fs::path path_;
  std::unique_ptr<Log> log_;
  PreparedModel prepared_;
  std::unique_ptr<data::NanosetStages> data_;
  ValidationSets sets_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<RunSaver> saver_;
  std::unique_ptr<StopRequests> requests_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<MetricsCopies> copies_;  // null once they could not be written
  std::unique_ptr<StepLog> step_log_;
  int64_t validated_step_ = -1;
  unsigned asked_ = 0;                                // core::StopBit of all ranks
  bool metrics_fail_ = false, status_fails_ = false;  // warned of
  nlohmann::json last_validation_, first_validation_;
  ValidationLosses validation_losses_;  // all that metrics.jsonl has; rank 0 only
  bool same_validation_ = true;         // as when the checkpoint was written; rank 0 only
  nlohmann::json earlier_result_;  // of a process that finished this run; null when there is none
  std::unique_ptr<Watchdog> watchdog_;  // last: it reports on the others
};

}  // namespace trainer
