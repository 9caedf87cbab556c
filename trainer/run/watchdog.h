// Ends a run in which a rank makes no progress, which MPI 4.1 never does by itself: a thread per
// process looks at how long the phases that it was told of take.
//   half of the limit   RUN/hang-rank<r>.txt: rank, host, phase, seconds, limit (removed if the
//                       phase ends after all)
//   the limit           one line that names phase and rank, and the ranks that did not report; it
//                       comes whatever hangs, and without memory or threads in a shorter form
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace trainer {

struct WatchdogOptions {
  using Clock = std::chrono::steady_clock;

  std::filesystem::path folder;  // of the run, the same for all ranks
  int rank = 0, ranks = 1;
  std::string host = {};
  // Ends all ranks and does not return; the argument is the line to print, without a line break.
  // Called once, in the watchdog's thread.
  std::function<void(const std::string&)> abort;
  // What happens if `abort` is still at it `abort_time` later; by default _exit(kHang).
  std::function<void()> force_exit = {};
  std::chrono::milliseconds abort_time{5000};
  // For reading the reports of the other ranks: the file system may be what hangs.
  std::chrono::milliseconds others_time{2000};
  // Ranks above 0 wait so much longer: where rank 0 can speak, it speaks for all.
  std::chrono::milliseconds patience{2000};
  std::chrono::milliseconds tick{250};
  // The process itself was stopped when so much time passed between two looks: forgiven.
  std::chrono::milliseconds own_stall{5000};
  std::function<Clock::time_point()> now = [] { return Clock::now(); };
};

class Watchdog {
 public:
  using Clock = WatchdogOptions::Clock;

  explicit Watchdog(WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The phase lasts as long as the object. Phases may nest and overlap, in any thread.
  class [[nodiscard]] Phase {
   public:
    Phase(Phase&& other) noexcept;
    Phase& operator=(Phase&&) = delete;
    ~Phase();

   private:
    friend class Watchdog;
    Phase(Watchdog* watchdog, uint64_t id) : watchdog_(watchdog), id_(id) {}
    Watchdog* watchdog_;
    uint64_t id_;
  };
  // `name` as it is shown: "step 12". A limit of 0 is none.
  Phase enter(std::string name, std::chrono::duration<double> limit);

 private:
  struct Entry {
    uint64_t id = 0;
    std::string name;
    Clock::duration limit;
    Clock::time_point start;
    bool late = false;  // half of the limit has passed
  };

  // What is printed when there is neither memory nor a thread for more.
  struct PlainLine {
    std::array<char, 160> text{};
    size_t length = 0;
  };

  void leave(uint64_t id);
  void watch(const std::stop_token& stop);
  // Requires: mutex_ is held.
  void forgive(Clock::duration stall);
  const Entry* overdue(Clock::time_point now);
  PlainLine plain_line(const Entry& entry) const noexcept;
  std::optional<std::string> report(Clock::time_point now) const;
  void update_report(const std::optional<std::string>& wanted);
  void end_run(const Entry& entry, Clock::time_point now);

  WatchdogOptions options_;
  std::chrono::system_clock::time_point started_;
  std::mutex mutex_;
  std::list<Entry> entries_;
  uint64_t next_id_ = 1;
  std::condition_variable_any wake_;
  // A file system that hangs must hold up neither the phases nor the watch: a thread of its own.
  std::atomic<bool> writing_ = false;
  bool reported_ = false;
  std::jthread writer_;
  std::jthread watcher_;  // last: it uses all the others
};

// hang-rank<r>.txt in `folder`.
std::filesystem::path hang_file(const std::filesystem::path& folder, int rank);

}  // namespace trainer
