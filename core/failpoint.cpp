#include "core/failpoint.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/error.h"
#include "core/text.h"

namespace core {
namespace internal {
std::atomic<bool> failpoints_armed{false};
}

namespace {

constexpr char kVariable[] = "MHA2MLA_FAILPOINT";
constexpr char kRankVariable[] = "MHA2MLA_FAILPOINT_RANK";
constexpr int64_t kMaxNumber = 1'000'000'000;

enum class Action { kKill, kAbort, kThrow, kStop, kSleep };

struct Trap {
  size_t place;
  Action action;
  int64_t milliseconds;
  int64_t passage;
};

struct Armed {
  std::vector<Trap> traps;
  std::array<std::atomic<int64_t>, kFailpointNames.size()> passages{};
};

Armed& armed() {
  static Armed instance;
  return instance;
}

[[noreturn]] void fail_entry(std::string_view entry, const std::string& expected,
                             const std::string& hint = "") {
  fail(ExitCode::kBadConfig, {.field = kVariable,
                              .expected = expected,
                              .found = fmt::format("\"{}\"", entry),
                              .hint = hint});
}

// A decimal number in [smallest, 10^9], the whole of `text`.
std::optional<int64_t> parse_number(std::string_view text, int64_t smallest) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < smallest || value > kMaxNumber)
    return std::nullopt;
  return value;
}

size_t parse_place(std::string_view entry, std::string_view name) {
  const auto at = std::find(kFailpointNames.begin(), kFailpointNames.end(), name);
  if (at != kFailpointNames.end()) return static_cast<size_t>(at - kFailpointNames.begin());
  const std::string near = nearest(name, {kFailpointNames.begin(), kFailpointNames.end()});
  fail_entry(entry, "the name of a failpoint",
             near.empty() ? "mha2mla env lists them" : "did you mean " + near + "?");
}

Trap parse_entry(std::string_view entry) {
  const size_t equals = entry.find('=');
  if (equals == std::string_view::npos) fail_entry(entry, "NAME=ACTION[@N]");
  Trap trap{.place = parse_place(entry, entry.substr(0, equals)),
            .action = Action::kKill,
            .milliseconds = 0,
            .passage = 1};
  std::string_view action = entry.substr(equals + 1);
  if (const size_t at = action.find('@'); at != std::string_view::npos) {
    const std::optional<int64_t> passage = parse_number(action.substr(at + 1), 1);
    if (!passage) fail_entry(entry, "a number from 1 on after @");
    trap.passage = *passage;
    action = action.substr(0, at);
  }
  constexpr std::string_view kSleepPrefix = "sleep:";
  if (action.starts_with(kSleepPrefix)) {
    const auto milliseconds = parse_number(action.substr(kSleepPrefix.size()), 0);
    if (!milliseconds) fail_entry(entry, "a number of milliseconds after sleep:");
    trap.action = Action::kSleep;
    trap.milliseconds = *milliseconds;
    return trap;
  }
  if (action == "kill")
    trap.action = Action::kKill;
  else if (action == "abort")
    trap.action = Action::kAbort;
  else if (action == "throw")
    trap.action = Action::kThrow;
  else if (action == "stop")
    trap.action = Action::kStop;
  else
    fail_entry(entry, "the action kill, abort, throw, stop or sleep:MS");
  return trap;
}

std::vector<Trap> parse(std::string_view specification) {
  std::vector<Trap> traps;
  while (!specification.empty()) {
    const size_t comma = specification.find(',');
    traps.push_back(parse_entry(specification.substr(0, comma)));
    if (comma == std::string_view::npos) break;
    specification.remove_prefix(comma + 1);
    if (specification.empty()) fail_entry("", "NAME=ACTION[@N] after the last comma");
  }
  return traps;
}

void carry_out(const Trap& trap) {
  switch (trap.action) {
    case Action::kKill:
      std::raise(SIGKILL);
      break;
    case Action::kAbort:
      std::abort();
    case Action::kThrow:
      fail(ExitCode::kIo, {.field = std::string(kFailpointNames[trap.place]),
                           .found = fmt::format("the failure that {} asks for", kVariable)});
    case Action::kStop:
      std::raise(SIGSTOP);
      break;
    case Action::kSleep:
      std::this_thread::sleep_for(std::chrono::milliseconds(trap.milliseconds));
      break;
  }
}

}  // namespace

void internal::pass_failpoint(size_t index) {
  const int64_t passage = armed().passages[index].fetch_add(1) + 1;
  for (const Trap& trap : armed().traps)
    if (trap.place == index && trap.passage == passage) carry_out(trap);
}

void arm_failpoints(const std::string& specification) {
  std::vector<Trap> traps = parse(specification);
  internal::failpoints_armed = false;
  armed().traps = std::move(traps);
  for (std::atomic<int64_t>& count : armed().passages) count = 0;
  internal::failpoints_armed = !armed().traps.empty();
}

void arm_failpoints_from_environment() {
  const Env& variables = env();
  const std::string& wanted = variables.failpoint_rank;
  const std::optional<int64_t> rank = parse_number(wanted, 0);
  if (!wanted.empty() && !rank)
    fail(ExitCode::kBadConfig, {.field = kRankVariable,
                                .expected = "a rank from 0 on",
                                .found = fmt::format("\"{}\"", wanted)});
  const std::string self = variables.launcher_rank.empty() ? "0" : variables.launcher_rank;
  parse(variables.failpoint);  // a wrong value is refused on each rank, not only on the chosen one
  arm_failpoints(!rank || parse_number(self, 0) == rank ? variables.failpoint : "");
}

}  // namespace core
