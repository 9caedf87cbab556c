#include "core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "core/seconds.h"
#include "core/text.h"

namespace core {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(5);

// "12.3k tokens/s", "15.3 s each".
std::string speed_text(double per_second, const std::string& unit) {
  return per_second > 0 && per_second < 1 ? fmt::format("{:.1f} s each", 1 / per_second)
                                          : fmt::format("{} {}/s", format_count(per_second), unit);
}

}  // namespace

Progress::Progress(std::string title, uint64_t total, std::string unit, bool quiet)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      printed_(terminal_ ? start_ - kTerminalInterval : start_) {}

Progress::~Progress() {
  if (terminal_ && !quiet_ && !finished_) std::fputc('\n', stderr);
}

void Progress::update(uint64_t done, const std::string& note) {
  done_ = done;
  const Clock::duration interval = terminal_ ? Clock::duration(kTerminalInterval) : kPlainInterval;
  if (quiet_ || Clock::now() - printed_ < interval) return;
  print(note, false);
}

void Progress::finish(const std::string& note) {
  if (total_ > 0) done_ = total_;
  finished_ = true;
  if (!quiet_) print(note, true);
}

void Progress::print(const std::string& note, bool last) {
  printed_ = Clock::now();
  const double elapsed = seconds_since(start_);
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  std::string line = fmt::format("{}: {}", title_, format_count(static_cast<double>(done_)));
  if (total_ > 0)
    line += fmt::format("/{} {} ({:.0f}%)", format_count(static_cast<double>(total_)), unit_,
                        100.0 * static_cast<double>(done_) / static_cast<double>(total_));
  else
    line += " " + unit_;
  line += " | " + speed_text(rate, unit_);
  if (last)
    line += fmt::format(" | {:.1f} s", elapsed);
  else if (total_ > done_ && rate > 0)
    line += " | eta " + format_duration(static_cast<double>(total_ - done_) / rate);
  if (!note.empty()) line += " | " + note;
  line = terminal_ ? "\r\033[K" + line + (last ? "\n" : "") : line + "\n";
  std::fputs(line.c_str(), stderr);  // work goes on when nobody reads it
  std::fflush(stderr);
}

}  // namespace core
