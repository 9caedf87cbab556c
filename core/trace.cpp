#include "core/trace.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <new>

namespace core::trace {
namespace internal {
std::atomic<bool> recording{false};
constinit thread_local Context context;

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
}  // namespace internal

namespace {

// Written by one thread, read by any: an event is complete before `count` says that it is there.
struct Buffer {
  std::unique_ptr<Event[]> events;
  std::atomic<const char*> name{nullptr};
  std::atomic<size_t> count{0};
  std::atomic<uint64_t> left_out{0};
};

// Invariant: a buffer is never freed, and belongs to one thread for good.
std::array<Buffer, kMaxThreads> buffers;
std::atomic<size_t> buffers_taken{0};
std::atomic<size_t> limit{kMaxEventsPerThread};
std::atomic<uint64_t> left_out_without_buffer{0};

constinit thread_local Buffer* own_buffer = nullptr;
constinit thread_local const char* own_name = nullptr;

Buffer* take_buffer() {
  // Why compare before: the number must not grow with every event of a thread that gets none.
  if (buffers_taken.load() >= kMaxThreads) return nullptr;
  const size_t index = buffers_taken.fetch_add(1);
  if (index >= kMaxThreads) return nullptr;
  Buffer& buffer = buffers[index];
  buffer.events.reset(new (std::nothrow) Event[kMaxEventsPerThread]);
  buffer.name = own_name;
  return &buffer;
}

}  // namespace

void internal::record(const Description& description, int64_t begin) {
  const int64_t end = now();
  if (own_buffer == nullptr) own_buffer = take_buffer();
  if (own_buffer == nullptr) {
    left_out_without_buffer.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Buffer& buffer = *own_buffer;
  const size_t index = buffer.count.load(std::memory_order_relaxed);
  if (buffer.events == nullptr || index >= limit.load(std::memory_order_relaxed)) {
    buffer.left_out.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  buffer.events[index] = {description.name,       description.category,   begin,        end - begin,
                          description.work.flops, description.work.bytes, context.layer};
  buffer.count.store(index + 1, std::memory_order_release);
}

void start(size_t events_per_thread) {
  limit = std::min(events_per_thread, kMaxEventsPerThread);
  left_out_without_buffer = 0;
  for (Buffer& buffer : buffers) {
    buffer.count = 0;
    buffer.left_out = 0;
  }
  internal::recording = true;
}

void stop() { internal::recording = false; }

void name_thread(const char* name) {
  own_name = name;
  if (own_buffer != nullptr) own_buffer->name = name;
}

Recording recording() {
  Recording all{.threads = {}, .left_out = left_out_without_buffer};
  const size_t taken = std::min(buffers_taken.load(), kMaxThreads);
  for (size_t i = 0; i < taken; ++i) {
    const Buffer& buffer = buffers[i];
    const size_t count = buffer.count.load(std::memory_order_acquire);
    const char* name = buffer.name;
    Thread& thread = all.threads.emplace_back();
    thread.name = name != nullptr ? name : i == 0 ? "main" : "thread " + std::to_string(i);
    if (count > 0) thread.events.assign(buffer.events.get(), buffer.events.get() + count);
    all.left_out += buffer.left_out;
  }
  return all;
}

}  // namespace core::trace
