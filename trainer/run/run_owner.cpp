#include "trainer/run/run_owner.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "trainer/files/json_files.h"
#include "trainer/files/lenient_json.h"
#include "trainer/files/manifest.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

// Another process may have got the number of one that is gone; only the owner has the lock open.
// A process of another user cannot be asked, and counts.
bool has_open(int64_t pid, const fs::path& file) {
  if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return false;
  std::error_code error;
  fs::directory_iterator descriptors(fmt::format("/proc/{}/fd", pid), error);
  if (error) return true;
  for (; descriptors != fs::directory_iterator(); descriptors.increment(error)) {
    if (error) return true;
    std::error_code ignored;  // closed meanwhile, or no file
    if (fs::equivalent(descriptors->path(), file, ignored)) return true;
  }
  return false;
}

double seconds_since_update(const fs::path& run_folder) {
  std::optional<fs::file_time_type> newest;
  for (const char* name : {"status.json", "metrics.jsonl", "trainer.log", "run.lock"}) {
    std::error_code error;
    const fs::file_time_type time = fs::last_write_time(run_folder / name, error);
    if (!error && (!newest || time > *newest)) newest = time;
  }
  if (!newest) return 0;
  const std::chrono::duration<double> age = fs::file_time_type::clock::now() - *newest;
  return std::max(0.0, age.count());
}

}  // namespace

RunOwner find_owner(const fs::path& run_folder) {
  RunOwner owner;
  owner.seconds_since_update = seconds_since_update(run_folder);
  const fs::path lock = run_folder / "run.lock";
  nlohmann::json content;
  try {
    content = read_object(lock);
  } catch (const core::Error&) {
    return owner;
  }
  owner.host = text_at(content, {"host"});
  const double pid = number_at(content, {"pid"});
  if (owner.host.empty() || owner.host != core::printable(owner.host) ||
      !(pid >= 1 && pid <= std::numeric_limits<pid_t>::max()))
    return {.seconds_since_update = owner.seconds_since_update};
  owner.pid = static_cast<int64_t>(pid);
  owner.state = owner.host != host_name()   ? RunOwner::State::kElsewhere
                : has_open(owner.pid, lock) ? RunOwner::State::kAlive
                                            : RunOwner::State::kGone;
  return owner;
}

std::string name_of(RunOwner::State state) {
  switch (state) {
    case RunOwner::State::kAlive:
      return "alive";
    case RunOwner::State::kGone:
      return "gone";
    case RunOwner::State::kElsewhere:
      return "elsewhere";
    case RunOwner::State::kUnknown:
      break;
  }
  return "unknown";
}

}  // namespace trainer
