// Which trial is next. The queue is in files, because they know what was done before this start and
// by other jobs, and because a lock ends with its process, however that ends:
//   <sweep>/queue/<id>.lock   flock: who holds it runs the trial
//   <sweep>/queue/<id>.json   {session, state, starts, exit_code, message}: how that went
//   <sweep>/<id>/result.json  it is done
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "trainer/files/file_lock.h"
#include "trainer/sweep/plan.h"

namespace trainer {

std::filesystem::path trial_folder(const SweepPlan& plan, const Trial& trial);

// result.json of a trial that is done; null otherwise.
nlohmann::json read_trial_result(const SweepPlan& plan, const Trial& trial);
// queue/<id>.json; an empty object when there is none.
nlohmann::json read_trial_state(const SweepPlan& plan, const Trial& trial);

// A whole number in [0, most] in such a file, which anybody may have written; else nothing.
std::optional<int64_t> count_at(const nlohmann::json& from, const char* key, int64_t most);

class SweepQueue {
 public:
  // `session` names this start of the sweep on all of its ranks: within one, no trial is tried
  // twice. Requires: `plan` outlives the queue.
  SweepQueue(const SweepPlan& plan, std::vector<size_t> selected, std::string session,
             bool fail_fast);

  struct Claim {
    size_t trial = 0;  // of the plan
    FileLock lock;
  };
  // The next trial that is neither done, nor tried in this session, nor somebody else's; nothing
  // when there is none, or with fail_fast one has failed. Those that were started most often
  // without coming to an end are the last: a trial that kills its process holds up no other.
  std::optional<Claim> take();
  // How the trial ended; null: it is done. Gives it back.
  void finish(Claim claim, const core::Error* failure);

 private:
  bool is_open(size_t trial, const nlohmann::json& state) const;
  bool has_failed() const;
  void write(size_t trial, const nlohmann::json& state) const;

  const SweepPlan& plan_;
  std::vector<size_t> selected_;
  std::string session_;
  bool fail_fast_;
};

}  // namespace trainer
