#include "trainer/run/run_saver.h"

#include <fmt/format.h>

#include <utility>

#include "trainer/checkpoint/replica_check.h"
#include "trainer/checkpoint/state_snapshot.h"

namespace trainer {
namespace {

using core::ExitCode;

// Above the bits of core::StopBit.
constexpr uint64_t kSavingFailed = uint64_t{1} << 32;  // for good: the run ends
constexpr uint64_t kSaveLost = uint64_t{1} << 33;      // the same step may be saved again

}  // namespace

RunSaver::RunSaver(Comm& comm, const Log& log, const StateRegistry& registry,
                   RunSaverOptions options)
    : comm_(comm), log_(log), registry_(registry), options_(std::move(options)) {
  comm_.run_agreed([&] {
    if (root())
      writer_ =
          std::make_unique<CheckpointWriter>(options_.directory, registry_, options_.retention);
  });
}

void RunSaver::resume_from(int64_t step, const std::string& checkpoint) {
  saved_step_ = checkpoint.empty() ? -1 : step;
  committed_ = checkpoint;
  comm_.run_agreed([&] {
    if (root()) parent_ = checkpoint.empty() ? "" : manifest_hash(checkpoint);
  });
}

void RunSaver::save(int64_t step, const std::function<CheckpointRequest()>& request) {
  if (saved_step_ == step) return;
  settle(/*must_succeed=*/false);
  if (comm_.size() > 1) require_equal_replicas(comm_, registry_);
  comm_.run_agreed([&] {
    if (!root()) return;
    CheckpointRequest filled = request();
    filled.step = step;
    filled.provenance["parent"] = parent_;
    writer_->copy(std::move(filled));
  });
  gather_dealt(comm_, registry_, root() ? &writer_->snapshot() : nullptr);
  comm_.run_agreed([&] {
    if (!root()) return;
    options_.before_writing();
    writer_->write();
  });
  saved_step_ = step;
}

uint64_t RunSaver::poll() {
  if (!root()) return 0;
  const auto outcome = writer_->poll();
  if (!outcome) return 0;
  try {
    record(*outcome, /*must_succeed=*/false);
    return outcome->error ? kSaveLost : 0;
  } catch (...) {
    failure_ = to_error(std::current_exception());
    return kSavingFailed;
  }
}

void RunSaver::agree(uint64_t word) {
  if ((word & kSavingFailed) != 0) comm_.agree(std::exchange(failure_, {}));
  if ((word & kSaveLost) != 0) saved_step_ = -1;
}

void RunSaver::settle(bool must_succeed) {
  bool lost = false;
  comm_.run_agreed([&] {
    if (!root()) return;
    const auto outcome = writer_->wait();
    if (!outcome) return;
    lost = outcome->error != nullptr;
    record(*outcome, must_succeed);
  });
  if (comm_.max(lost ? 1 : 0) != 0) saved_step_ = -1;
}

void RunSaver::await_save_in_flight() {
  if (writer_ != nullptr) writer_->wait();
}

// Throws what ends the run: a state that must not be saved, or more failures than are allowed.
void RunSaver::record(const SaveOutcome& outcome, bool must_succeed) {
  if (outcome.error) {
    const core::Error error = to_error(outcome.error);
    ++failed_saves_;
    if (must_succeed || error.code() == ExitCode::kNumerical ||
        failed_saves_ >= options_.max_failed_saves)
      throw error;
    log_.warn(
        fmt::format("the checkpoint of step {} failed (failure {} in a row; {} end the run): {}",
                    outcome.step, failed_saves_, options_.max_failed_saves, error.what()));
    return;
  }
  failed_saves_ = 0;
  committed_ = outcome.saved->path;
  parent_ = outcome.saved->manifest_hash;
  log_.info(fmt::format("ckpt committed step={} manifest={}", outcome.step, parent_));
  if (!outcome.warning.empty()) log_.warn(outcome.warning);
  options_.acknowledged(outcome);
}

}  // namespace trainer
