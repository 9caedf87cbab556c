// What a thread did, when and for how long: scopes, recorded into a buffer per thread. One relaxed
// load per scope when off; no lock and no allocation per scope when on (a thread's first takes its
// buffer). Memory is bounded: what does not fit is counted. Files: core/trace_file.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace core::trace {

inline constexpr size_t kMaxEventsPerThread = size_t{1} << 20;  // 56 MiB, touched as they come
inline constexpr size_t kMaxThreads = 8;                        // that record anything

// What an event had to do at least: 0 is unknown. Bytes: each operand read or written once.
struct Work {
  double flops = 0, bytes = 0;
};

// Invariant: names are literals without quotes, backslashes and control characters.
struct Description {
  const char* name;
  const char* category = "program";
  Work work = {};
};

// Trivial, so that a buffer costs nothing before it is filled.
struct Event {
  const char* name;
  const char* category;
  int64_t begin, duration;  // nanoseconds, begin on the clock that all processes of a host share
  double flops, bytes;
  int32_t layer;  // of the model; negative: none
};

enum class Phase : uint8_t { forward, backward, recompute };

// What this thread works on. Events take their layer from it.
struct Context {
  Phase phase = Phase::forward;
  int32_t layer = -1;
};

namespace internal {
extern std::atomic<bool> recording;
extern constinit thread_local Context context;
int64_t now();
void record(const Description& description, int64_t begin);
}  // namespace internal

inline bool on() { return internal::recording.load(std::memory_order_relaxed); }

inline const Context& context() { return internal::context; }

class ContextScope {
 public:
  explicit ContextScope(const Context& context) : outer_(internal::context) {
    internal::context = context;
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  ~ContextScope() { internal::context = outer_; }

 private:
  Context outer_;
};

// An event from here to the end of the block, if recording was on at its begin.
class Scope {
 public:
  explicit Scope(const char* name) : Scope(Description{name}) {}
  explicit Scope(const Description& description) : description_(description) {
    if (on()) begin_ = internal::now();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() {
    if (begin_ >= 0) internal::record(description_, begin_);
  }

 private:
  Description description_;
  int64_t begin_ = -1;
};

// Forgets all events and records from here on, at most `events_per_thread` of each thread.
// Requires, as all below but name_thread: no other thread is inside a scope.
void start(size_t events_per_thread = kMaxEventsPerThread);
void stop();

// The name of this thread in traces; a literal.
void name_thread(const char* name);

struct Thread {
  std::string name;           // "thread N" unless named; the first to record is "main"
  std::vector<Event> events;  // in the order of their ends
};

struct Recording {
  std::vector<Thread> threads;
  uint64_t left_out = 0;  // events beyond the bound
};

// What was recorded since start().
Recording recording();

}  // namespace core::trace
