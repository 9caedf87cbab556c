// status.json of a run: what it is doing, or how it ended, for people, wrappers and schedulers.
#pragma once

#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "trainer/run/run_folder.h"

namespace trainer {

class RunStatus {
 public:
  // `folder` is null above rank 0, which only write the end of a run that they end themselves.
  // Requires: it outlives the status.
  RunStatus(const RunFolder* folder, std::filesystem::path path)
      : folder_(folder), path_(std::move(path)) {}

  void set_step(int64_t step);
  // The newest checkpoint that is known to be durable; empty: none.
  void set_checkpoint(const std::string& path);

  // {state, step, checkpoint}. Throws kIo.
  void write(const std::string& state);
  // How the run ended: preempted, hung or failed, with exit_code, message and, for a stop on
  // request, its reason. The first end stands. Any thread, the watchdog's too; never throws,
  // because the error that matters is on its way already.
  void write_end(const core::Error& error, const std::string& reason) noexcept;
  void write_done(int64_t step);

 private:
  nlohmann::json common(const std::string& state) const;

  const RunFolder* folder_;
  std::filesystem::path path_;
  std::timed_mutex mutex_;  // guards what follows, and the file
  nlohmann::json facts_ = nlohmann::json::object();
  bool ended_ = false;
};

}  // namespace trainer
