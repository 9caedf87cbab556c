#include "core/stop.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

#include "core/error.h"

namespace core {
namespace {

using Clock = std::chrono::steady_clock;
constexpr Clock::rep kNoDeadline = 0;

// Lock-free, or a handler that interrupts a store would wait for itself.
std::atomic<unsigned> g_bits{0};
std::atomic<Clock::rep> g_deadline{kNoDeadline};
static_assert(std::atomic<unsigned>::is_always_lock_free);
static_assert(std::atomic<Clock::rep>::is_always_lock_free);

constexpr std::array<std::pair<unsigned, const char*>, 7> kNames = {{
    {kStopUsr1, "SIGUSR1"},
    {kStopTerm, "SIGTERM"},
    {kStopInt, "SIGINT"},
    {kStopHup, "SIGHUP"},
    {kStopXcpu, "SIGXCPU"},
    {kStopTrigger, "trigger file STOP"},
    {kStopMaxTime, "max_time"},
}};

}  // namespace

void request_stop(unsigned bits) noexcept { g_bits.fetch_or(bits, std::memory_order_relaxed); }

void set_stop_deadline(Clock::time_point when) noexcept {
  g_deadline.store(when.time_since_epoch().count(), std::memory_order_relaxed);
}

unsigned stop_bits() noexcept {
  const Clock::rep deadline = g_deadline.load(std::memory_order_relaxed);
  if (deadline != kNoDeadline && Clock::now().time_since_epoch().count() >= deadline)
    request_stop(kStopMaxTime);
  return g_bits.load(std::memory_order_relaxed);
}

void clear_save_now() noexcept { g_bits.fetch_and(~unsigned{kSaveNow}, std::memory_order_relaxed); }

void reset_stop() noexcept {
  g_deadline.store(kNoDeadline, std::memory_order_relaxed);
  g_bits.store(0, std::memory_order_relaxed);
}

std::string describe_stop(unsigned bits) {
  std::string text;
  for (const auto& [bit, name] : kNames)
    if ((bits & bit) != 0) text += (text.empty() ? "" : ", ") + std::string(name);
  return text.empty() ? "nothing" : text;
}

void throw_stopped(unsigned bits) {
  throw Error(ExitCode::kPreempted,
              "stopped by " + describe_stop(bits) + "; run the same command again");
}

}  // namespace core
