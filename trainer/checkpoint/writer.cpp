#include "trainer/checkpoint/writer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/seconds.h"
#include "core/signals_blocked.h"
#include "core/trace.h"

namespace trainer {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

// A disk that is full or read-only is better known before the first step than at the first save.
void probe(const fs::path& directory, uint64_t checkpoint_bytes) {
  constexpr uint64_t kLargestProbe = uint64_t{1} << 20;
  const fs::path folder = directory / with_nonce(".tmp-0");  // removed by the next start if need be
  core::create_directories(folder);
  try {
    core::write_file_atomically(folder / "probe",
                                std::string(std::min(checkpoint_bytes, kLargestProbe), '\0'));
  } catch (...) {
    discard_folder(folder);
    throw;
  }
  discard_folder(folder);
}

// Threads that compute are waited for by their siblings at every barrier; the writer can wait.
void yield_to_computation() {
  constexpr int kNice = 10;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path directory, const StateRegistry& registry,
                                   const Retention& retention)
    : directory_(std::move(directory)),
      registry_(registry),
      retention_(retention),
      snapshot_(registry) {
  core::create_directories(directory_);
  probe(directory_, snapshot_.bytes());
  const core::SignalsBlocked inherited_by_the_thread;
  thread_ = std::thread([this] { thread_main(); });
}

CheckpointWriter::~CheckpointWriter() {
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CheckpointWriter::copy(CheckpointRequest request) {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::idle)
      core::fail(core::ExitCode::kInternal, {.field = "checkpoint writer",
                                             .expected = "no save in flight",
                                             .found = "one whose outcome was not taken"});
  }
  core::failpoint("checkpoint.before_snapshot");
  {
    const core::trace::Scope scope("checkpoint snapshot");
    snapshot_.take(registry_);
  }
  request_ = std::move(request);
}

void CheckpointWriter::write() {
  {
    const core::trace::Scope scope("checkpoint snapshot");
    snapshot_.complete(registry_);
  }
  core::failpoint("checkpoint.after_snapshot");
  {
    const std::lock_guard lock(mutex_);
    phase_ = Phase::saving;
  }
  changed_.notify_all();
}

std::optional<SaveOutcome> CheckpointWriter::poll() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::ended) return std::nullopt;
  phase_ = Phase::idle;
  return std::exchange(outcome_, {});
}

std::optional<SaveOutcome> CheckpointWriter::wait() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return phase_ != Phase::saving; });
  }
  return poll();
}

void CheckpointWriter::thread_main() {
  yield_to_computation();
  core::trace::name_thread("checkpoint writer");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return quit_ || phase_ == Phase::saving; });
    if (phase_ != Phase::saving) return;
    lock.unlock();
    SaveOutcome outcome = save();
    lock.lock();
    outcome_ = std::move(outcome);
    phase_ = Phase::ended;
    changed_.notify_all();
  }
}

SaveOutcome CheckpointWriter::save() noexcept {
  const core::trace::Scope scope("checkpoint write");
  const Clock::time_point begin = Clock::now();
  SaveOutcome outcome{.step = request_.step};
  try {
    outcome.saved = save_checkpoint(directory_, snapshot_.view(), request_);
    try {
      core::failpoint("checkpoint.before_retention");
      outcome.removed = apply_retention(directory_, retention_, request_.validation_losses);
    } catch (const std::exception& e) {
      outcome.warning = std::string("old checkpoints could not be removed: ") + e.what();
    }
  } catch (...) {
    outcome.error = std::current_exception();
  }
  outcome.seconds = core::seconds_since(begin);
  return outcome;
}

}  // namespace trainer
