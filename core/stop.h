// Who asked the process to stop, or to save: bits that signal handlers, trigger files and the time
// limit set and that long work looks at between two pieces. Nothing is interrupted by force.
#pragma once

#include <chrono>
#include <string>

namespace core {

enum StopBit : unsigned {
  kSaveNow = 1U << 0,  // not a stop: SIGUSR2 or the trigger file SAVE
  kStopUsr1 = 1U << 1,
  kStopTerm = 1U << 2,
  kStopInt = 1U << 3,
  kStopHup = 1U << 4,
  kStopXcpu = 1U << 5,
  kStopTrigger = 1U << 6,  // the trigger file STOP
  kStopMaxTime = 1U << 7,  // the deadline passed
};

// Adds to what was asked for. Async-signal-safe, and safe in every thread.
void request_stop(unsigned bits) noexcept;

// From then on stop_bits() holds kStopMaxTime.
void set_stop_deadline(std::chrono::steady_clock::time_point when) noexcept;

// All that was asked for so far, by this process: other ranks may know more or less.
unsigned stop_bits() noexcept;

constexpr bool is_stop(unsigned bits) noexcept { return (bits & ~unsigned{kSaveNow}) != 0; }

// The save was done, or is about to start. Stop bits stay: a process that was told to stop stops.
void clear_save_now() noexcept;

// Forgets bits and deadline. For tests, which stop many times in one process.
void reset_stop() noexcept;

// "SIGTERM, max_time"; "nothing" for no stop bit.
std::string describe_stop(unsigned bits);

// What work throws that ends early because of `bits`: kPreempted, one line.
[[noreturn]] void throw_stopped(unsigned bits);

// To be called between pieces of long work, wherever an exception leaves nothing half-written.
// Throws kPreempted once a stop was asked for.
inline void throw_if_stopping() {
  if (const unsigned bits = stop_bits(); is_stop(bits)) throw_stopped(bits);
}

}  // namespace core
