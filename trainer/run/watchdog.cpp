#include "trainer/run/watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <future>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/io.h"
#include "core/signals_blocked.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using Clock = Watchdog::Clock;

// File systems stamp with a coarser clock than the one that is asked here.
constexpr std::chrono::seconds kStampError{1};
constexpr uint64_t kMostReportBytes = 4096;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

std::chrono::system_clock::time_point changed_at(const fs::path& path) {
  const int fd = core::io::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return {};
  struct stat info = {};
  const bool known = core::io::stat(fd, &info) == 0;
  core::io::close(fd);
  return known ? std::chrono::system_clock::from_time_t(info.st_mtime)
               : std::chrono::system_clock::time_point();
}

std::string phase_in(const std::string& report) {
  constexpr std::string_view kKey = "\nphase ";
  const size_t at = report.find(kKey);
  if (at == std::string::npos) return "?";
  const size_t begin = at + kKey.size();
  return report.substr(begin, report.find('\n', begin) - begin);
}

// What the other ranks have to say, as far as it differs from being in `phase`.
std::string word_of_others(const WatchdogOptions& options, const std::string& phase,
                           std::chrono::system_clock::time_point since) {
  std::string silent, elsewhere;
  for (int rank = 0; rank < options.ranks; ++rank) {
    if (rank == options.rank) continue;
    const fs::path file = hang_file(options.folder, rank);
    try {
      if (changed_at(file) + kStampError < since) {
        silent += fmt::format("{}{}", silent.empty() ? "" : ", ", rank);
        continue;
      }
      const std::string there = phase_in(core::read_text(file, kMostReportBytes));
      if (there != phase) elsewhere += fmt::format("; rank {} is in {}", rank, there);
    } catch (const core::Error&) {
      silent += fmt::format("{}{}", silent.empty() ? "" : ", ", rank);
    }
  }
  if (!silent.empty()) silent = "; no report of rank " + silent + ": stopped or unreachable";
  return silent + elsewhere;
}

// The same, unless the run's file system hangs as well: then the threads that wait for it stay.
std::string word_of_others_in_time(const WatchdogOptions& options, const std::string& phase,
                                   std::chrono::system_clock::time_point since) {
  const WatchdogOptions ours{.folder = options.folder,
                             .rank = options.rank,
                             .ranks = options.ranks,
                             .host = {},
                             .abort = {}};
  std::packaged_task<std::string()> task(
      [ours, phase, since] { return word_of_others(ours, phase, since); });
  std::future<std::string> word = task.get_future();
  std::thread(std::move(task)).detach();
  if (word.wait_for(options.others_time) != std::future_status::ready)
    return "; the reports of the other ranks cannot be read, the run's folder does not answer";
  return word.get();
}

void print_plainly(const char* line, size_t length) {
  while (length > 0) {
    const ssize_t n = ::write(STDERR_FILENO, line, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    line += n;
    length -= static_cast<size_t>(n);
  }
}

}  // namespace

fs::path hang_file(const fs::path& folder, int rank) {
  return folder / fmt::format("hang-rank{}.txt", rank);
}

Watchdog::Watchdog(WatchdogOptions options)
    : options_(std::move(options)), started_(std::chrono::system_clock::now()) {
  if (!options_.force_exit)
    options_.force_exit = [] { ::_exit(static_cast<int>(core::ExitCode::kHang)); };
  const core::SignalsBlocked signals_go_to_the_main_thread;
  watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

Watchdog::~Watchdog() {
  watcher_.request_stop();
  watcher_.join();
}

Watchdog::Phase Watchdog::enter(std::string name, std::chrono::duration<double> limit) {
  if (limit.count() <= 0) return {nullptr, 0};
  const std::lock_guard lock(mutex_);
  entries_.push_back({.id = next_id_,
                      .name = std::move(name),
                      .limit = std::chrono::duration_cast<Clock::duration>(limit),
                      .start = options_.now()});
  return {this, next_id_++};
}

void Watchdog::leave(uint64_t id) {
  const std::lock_guard lock(mutex_);
  entries_.remove_if([id](const Entry& entry) { return entry.id == id; });
}

Watchdog::Phase::Phase(Phase&& other) noexcept
    : watchdog_(std::exchange(other.watchdog_, nullptr)), id_(other.id_) {}

Watchdog::Phase::~Phase() {
  if (watchdog_ != nullptr) watchdog_->leave(id_);
}

void Watchdog::watch(const std::stop_token& stop) {
  Clock::time_point last = options_.now();
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    wake_.wait_for(lock, stop, options_.tick, [] { return false; });
    const Clock::time_point now = options_.now();
    if (now - last > options_.own_stall) forgive(now - last);
    last = now;
    if (const Entry* entry = overdue(now)) {
      const PlainLine plain = plain_line(*entry);
      try {
        const Entry copy = *entry;
        lock.unlock();  // the phase may yet end, and must not wait for what follows
        end_run(copy, now);
      } catch (const std::exception&) {  // no memory, no thread
        print_plainly(plain.text.data(), plain.length);
        options_.force_exit();
      }
      return;
    }
    try {
      update_report(report(now));
    } catch (const std::exception&) {
      // No memory or no thread for it now: what is late then is still late at the next look.
    }
  }
}

Watchdog::PlainLine Watchdog::plain_line(const Entry& entry) const noexcept {
  PlainLine line;
  const auto put = [&](std::string_view part) {
    const size_t n = std::min(part.size(), line.text.size() - 1 - line.length);
    std::copy_n(part.data(), n, line.text.data() + line.length);
    line.length += n;
  };
  std::array<char, 12> rank{};
  const char* end = std::to_chars(rank.data(), rank.data() + rank.size(), options_.rank).ptr;
  put("[rank ");
  put({rank.data(), static_cast<size_t>(end - rank.data())});
  put("] error: watchdog: no end of ");
  put(entry.name);
  line.text[line.length++] = '\n';
  return line;
}

void Watchdog::forgive(Clock::duration stall) {
  for (Entry& entry : entries_) entry.start += stall;
}

const Watchdog::Entry* Watchdog::overdue(Clock::time_point now) {
  const Clock::duration patience =
      options_.rank == 0 ? Clock::duration(0) : Clock::duration(options_.patience);
  for (Entry& entry : entries_) {
    entry.late = now - entry.start >= entry.limit / 2;
    if (now - entry.start >= entry.limit + patience) return &entry;
  }
  return nullptr;
}

std::optional<std::string> Watchdog::report(Clock::time_point now) const {
  for (const Entry& entry : entries_)
    if (entry.late)
      return fmt::format("rank {}\nhost {}\nphase {}\nseconds {:.1f}\nlimit {:.1f}\n",
                         options_.rank, options_.host, entry.name, seconds(now - entry.start),
                         seconds(entry.limit));
  return std::nullopt;
}

void Watchdog::update_report(const std::optional<std::string>& wanted) {
  if (wanted.has_value() == reported_ || writing_) return;
  auto write = [this, wanted, file = hang_file(options_.folder, options_.rank)] {
    try {
      if (wanted)
        core::write_file_atomically(file, *wanted);
      else
        core::io::unlink(file);
    } catch (const std::exception&) {
      // A full disk is no reason to end the watch; the others will miss this rank's report.
    }
    writing_ = false;
  };
  const core::SignalsBlocked signals_go_to_the_main_thread;
  writing_ = true;
  try {
    writer_ = std::jthread(std::move(write));
  } catch (...) {
    writing_ = false;
    throw;
  }
  reported_ = wanted.has_value();
}

void Watchdog::end_run(const Entry& entry, Clock::time_point now) {
  // All that follows may hang as well: a file system, a lock of stdio, MPI.
  std::jthread last_resort([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, options_.abort_time, [] { return false; });
    if (!stop.stop_requested()) options_.force_exit();
  });
  const std::string fault = core::format_fault(
      {.field = "watchdog",
       .expected = fmt::format("{} within {:g} s", entry.name, seconds(entry.limit)),
       .found = fmt::format("no end after {:.0f} s", seconds(now - entry.start)) +
                word_of_others_in_time(options_, entry.name, started_)});
  options_.abort(fmt::format("[rank {} {}] {}", options_.rank, options_.host, fault));
}

}  // namespace trainer
