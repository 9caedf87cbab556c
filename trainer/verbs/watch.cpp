#include <fmt/format.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <clocale>
#include <cmath>
#include <string>
#include <thread>

#include "chart/terminal_plot.h"
#include "core/stop.h"
#include "trainer/report/run_record.h"
#include "trainer/report/training_section.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

struct TerminalSize {
  size_t columns = 80, rows = 24;
};

TerminalSize terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return {};
  return {size.ws_col, size.ws_row};
}

bool speaks_utf8() {
  std::setlocale(LC_CTYPE, "");
  return std::string(::nl_langinfo(CODESET)) == "UTF-8";
}

std::string headline(const RunRecord& run) {
  std::string line = run.name;
  if (!run.state.empty()) line += fmt::format(" ({})", run.state);
  if (run.find("loss") != nullptr)
    line += fmt::format(", step {:.0f}, loss {:.4f}", run.last_step(), run.last("loss"));
  if (run.find("val_loss") != nullptr) line += fmt::format(", val {:.4f}", run.last("val_loss"));
  if (run.find("tokens_per_s") != nullptr)
    line += fmt::format(", {:.0f} tokens/s", run.last("tokens_per_s"));
  return line;
}

std::string plot_of(const RunRecord& run, const TerminalSize& size, bool braille) {
  chart::TerminalPlot plot{.title = headline(run),
                           .x_label = "step",
                           .x = {},
                           .y = {},
                           .columns = size.columns,
                           .rows = size.rows - 1,
                           .braille = braille};
  if (const Curve* loss = run.find("loss")) {
    plot.x = loss->step;
    plot.y = loss->value;
  }
  return draw(plot);
}

bool has_ended(const RunRecord& run) {
  const auto& state = run.state;
  return state == "done" || state == "preempted" || state == "failed" || state == "hung";
}

// Looks for a stop in between, so that Ctrl-C ends the view at once.
void wait(double seconds) {
  constexpr double kLook = 0.1;
  for (double left = seconds; left > 0 && !core::is_stop(core::stop_bits()); left -= kLook)
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left, kLook)));
}

}  // namespace

nlohmann::json run_watch(const WatchOptions& options, Session& session) {
  const bool terminal = !session.json && ::isatty(STDOUT_FILENO) == 1;
  const bool braille = speaks_utf8();
  RunRecord run = read_run(options.run);
  while (terminal) {
    constexpr const char* kHomeAndClear = "\x1b[H\x1b[J";
    session.say(kHomeAndClear + plot_of(run, terminal_size(), braille));
    if (has_ended(run) || core::is_stop(core::stop_bits())) break;
    wait(options.seconds);
    run = read_run(options.run);
  }
  if (!terminal) session.say(plot_of(run, {}, braille));
  nlohmann::json result = {{"run", run.path.string()}, {"state", run.state}};
  for (const char* curve : {"loss", "val_loss"})
    if (std::isfinite(run.last(curve))) result[curve] = run.last(curve);
  return result;
}

}  // namespace trainer
