#include "trainer/run/run_status.h"

#include <chrono>
#include <utility>

#include "trainer/files/json_files.h"

namespace trainer {

using core::ExitCode;
using nlohmann::json;

void RunStatus::set_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  facts_["step"] = step;
}

void RunStatus::set_checkpoint(const std::string& path) {
  const std::lock_guard lock(mutex_);
  facts_.erase("checkpoint");
  if (!path.empty()) facts_["checkpoint"] = path;
}

json RunStatus::common(const std::string& state) const {
  json status = facts_;
  status["state"] = state;
  return status;
}

void RunStatus::write(const std::string& state) {
  if (folder_ == nullptr) return;
  const std::lock_guard lock(mutex_);
  folder_->write_status(common(state));
}

void RunStatus::write_done(int64_t step) {
  if (folder_ == nullptr) return;
  const std::lock_guard lock(mutex_);
  facts_["step"] = step;
  json status = common("done");
  status["exit_code"] = 0;
  folder_->write_status(status);
}

void RunStatus::write_end(const core::Error& error, const std::string& reason) noexcept {
  try {
    // A thread that hangs while it writes must not hang the watchdog as well.
    const std::unique_lock lock(mutex_, std::chrono::seconds(1));
    if (!lock.owns_lock() || std::exchange(ended_, true)) return;
    // Rank 0 may be what hangs: what it wrote last stays true.
    if (folder_ == nullptr) facts_ = read_object(path_ / kStatusName);
    const bool preempted = error.code() == ExitCode::kPreempted;
    const bool hung = error.code() == ExitCode::kHang;
    json status = common(preempted ? "preempted" : hung ? "hung" : "failed");
    status["exit_code"] = static_cast<int>(error.code());
    status["message"] = error.what();
    if (preempted) status["reason"] = reason;
    if (folder_ != nullptr)
      folder_->write_status(status);
    else
      write_status_file(path_, status);
  } catch (const std::exception&) {
    // The disk may be what failed.
  }
}

}  // namespace trainer
