#include "trainer/sweep/queue.h"

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "core/stop.h"
#include "trainer/files/json_files.h"
#include "trainer/files/lenient_json.h"

namespace trainer {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kMostStarts = 1'000'000'000;

fs::path queue_file(const SweepPlan& plan, const Trial& trial, const char* extension) {
  return plan.folder / "queue" / (trial.id + extension);
}

}  // namespace

fs::path trial_folder(const SweepPlan& plan, const Trial& trial) { return plan.folder / trial.id; }

json read_trial_result(const SweepPlan& plan, const Trial& trial) {
  return read_result(trial_folder(plan, trial), trial.config.tokens.train_steps);
}

json read_trial_state(const SweepPlan& plan, const Trial& trial) {
  return read_object(queue_file(plan, trial, ".json"));
}

std::optional<int64_t> count_at(const json& from, const char* key, int64_t most) {
  const json& value = value_at(from, {key});
  if (!value.is_number_integer()) return std::nullopt;
  const auto count = value.get<int64_t>();
  return count >= 0 && count <= most ? std::optional(count) : std::nullopt;
}

SweepQueue::SweepQueue(const SweepPlan& plan, std::vector<size_t> selected, std::string session,
                       bool fail_fast)
    : plan_(plan),
      selected_(std::move(selected)),
      session_(std::move(session)),
      fail_fast_(fail_fast) {}

bool SweepQueue::is_open(size_t trial, const json& state) const {
  return value_at(state, {"session"}) != json(session_) &&
         read_trial_result(plan_, plan_.trials[trial]).is_null();
}

bool SweepQueue::has_failed() const {
  return std::any_of(selected_.begin(), selected_.end(), [this](size_t trial) {
    const json state = read_trial_state(plan_, plan_.trials[trial]);
    return value_at(state, {"session"}) == json(session_) && text_at(state, {"state"}) == "failed";
  });
}

void SweepQueue::write(size_t trial, const json& state) const {
  core::write_file_atomically(queue_file(plan_, plan_.trials[trial], ".json"),
                              state.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

std::optional<SweepQueue::Claim> SweepQueue::take() {
  core::throw_if_stopping();
  if (fail_fast_ && has_failed()) return std::nullopt;
  core::create_directories(plan_.folder / "queue");
  std::vector<std::pair<int64_t, size_t>> order;  // starts, trial
  for (const size_t trial : selected_) {
    const json state = read_trial_state(plan_, plan_.trials[trial]);
    if (is_open(trial, state))
      order.emplace_back(count_at(state, "starts", kMostStarts).value_or(0), trial);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [starts, trial] : order) {
    FileLock lock = FileLock::try_lock(queue_file(plan_, plan_.trials[trial], ".lock"));
    if (!lock) continue;
    // Another group may have had it between the look and the lock.
    if (!is_open(trial, read_trial_state(plan_, plan_.trials[trial]))) continue;
    write(trial, {{"session", session_}, {"state", "running"}, {"starts", starts + 1}});
    return Claim{trial, std::move(lock)};
  }
  return std::nullopt;
}

void SweepQueue::finish(Claim claim, const core::Error* failure) {
  json state = {{"session", session_}, {"state", "done"}, {"starts", 0}, {"exit_code", 0}};
  if (failure != nullptr) {
    const bool stopped = failure->code() == core::ExitCode::kPreempted;
    state["state"] = stopped ? "stopped" : "failed";
    state["exit_code"] = static_cast<int>(failure->code());
    state["message"] = failure->what();
  }
  write(claim.trial, state);
}

}  // namespace trainer
