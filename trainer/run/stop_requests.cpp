#include "trainer/run/stop_requests.h"

#include <unistd.h>
#include <csignal>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "core/io.h"
#include "core/stop.h"

namespace trainer {
namespace {

constexpr int kInterrupted = 130;  // 128 + SIGINT, as a shell reports it

constexpr std::array<std::pair<int, unsigned>, 6> kHandled = {{
    {SIGUSR1, core::kStopUsr1},
    {SIGUSR2, core::kSaveNow},
    {SIGTERM, core::kStopTerm},
    {SIGINT, core::kStopInt},
    {SIGHUP, core::kStopHup},
    {SIGXCPU, core::kStopXcpu},
}};

std::atomic<int> g_urgent{0};  // INT and TERM so far
static_assert(std::atomic<int>::is_always_lock_free);

void end_at_once() {
  constexpr char kLine[] = "stopped at once by a second signal; the last checkpoint is intact\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kLine, sizeof kLine - 1);
  ::_exit(kInterrupted);
}

// Everything here is async-signal-safe: atomics, write and _exit.
void on_signal(int number) {
  if ((number == SIGINT || number == SIGTERM) && g_urgent.fetch_add(1) > 0) end_at_once();
  for (const auto& [signal, bit] : kHandled)
    if (signal == number) core::request_stop(bit);
}

bool is_ignored(int number) {
  struct sigaction current = {};
  return ::sigaction(number, nullptr, &current) == 0 && current.sa_handler == SIG_IGN;
}

void set_handler(int number, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;  // the work goes on until it looks at the bits itself
  ::sigfillset(&action.sa_mask);
  ::sigaction(number, &action, nullptr);
}

// What unlink says of a name that exists but cannot be removed.
bool is_there(int error_number) {
  return error_number == EISDIR || error_number == EACCES || error_number == EPERM ||
         error_number == EROFS || error_number == EBUSY;
}

}  // namespace

void install_signal_handlers() {
  set_handler(SIGPIPE, SIG_IGN);
  set_handler(SIGXFSZ, SIG_IGN);
  for (const auto& [signal, bit] : kHandled)
    if (!((signal == SIGINT || signal == SIGHUP) && is_ignored(signal)))
      set_handler(signal, on_signal);
}

StopRequests::StopRequests(std::filesystem::path run_folder, std::chrono::duration<double> max_time,
                           std::chrono::steady_clock::time_point start) {
  using Clock = std::chrono::steady_clock;
  if (!run_folder.empty()) {
    stop_ = {.path = run_folder / "STOP", .bit = core::kStopTrigger};
    save_ = {.path = run_folder / "SAVE", .bit = core::kSaveNow};
  }
  if (max_time.count() > 0)
    core::set_stop_deadline(start + std::chrono::duration_cast<Clock::duration>(max_time));
}

unsigned StopRequests::poll() {
  look_for(stop_);
  look_for(save_);
  return core::stop_bits();
}

void StopRequests::look_for(TriggerFile& file) {
  if (file.path.empty()) return;
  // One call in the usual case, in which there is no such file.
  const bool removed = core::io::unlink(file.path) == 0;
  const bool stays = !removed && is_there(errno);
  if (removed || (stays && !file.stuck)) core::request_stop(file.bit);
  file.stuck = stays;
}

}  // namespace trainer
