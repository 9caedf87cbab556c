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
#include "trainer/run/run_owner.h"
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

using Owner = RunOwner::State;

bool has_ended(const RunRecord& run) {
  const auto& state = run.state;
  return state == "done" || state == "preempted" || state == "failed" || state == "hung";
}

struct View {
  RunRecord run;
  RunOwner owner;

  // Nobody works on it: status.json is as a killed process left it.
  bool is_abandoned() const { return !has_ended(run) && owner.state == Owner::kGone; }
};

View look_at(const fs::path& folder) {
  // The owner first: a run that ends in between has told its state by then.
  RunOwner owner = find_owner(folder);
  return {read_run(folder), std::move(owner)};
}

std::string headline(const View& view) {
  const RunRecord& run = view.run;
  std::string line = run.name;
  if (view.is_abandoned())
    line += fmt::format(" ({}its process is gone)", run.state.empty() ? "" : run.state + ", but ");
  else if (!run.state.empty())
    line += fmt::format(" ({})", run.state);
  if (run.find("loss") != nullptr)
    line += fmt::format(", step {:.0f}, loss {:.4f}", run.last_step(), run.last("loss"));
  if (run.find("val_loss") != nullptr) line += fmt::format(", val {:.4f}", run.last("val_loss"));
  if (run.find("tokens_per_s") != nullptr)
    line += fmt::format(", {:.0f} tokens/s", run.last("tokens_per_s"));
  return line;
}

// What the state alone does not say of a run that has not ended; empty if there is nothing.
std::string word_on_process(const View& view) {
  constexpr double kLongSilence = 60;
  const RunOwner& owner = view.owner;
  if (has_ended(view.run) || owner.state == Owner::kUnknown) return "";
  const std::string age = fmt::format("last update {:.0f} s ago", owner.seconds_since_update);
  if (view.is_abandoned())
    return fmt::format(
        "process {} is gone without a word, {}: the same command continues from the newest "
        "checkpoint",
        owner.pid, age);
  if (owner.state == Owner::kElsewhere)
    return fmt::format("process {} on host {}, which cannot be asked from here, {}", owner.pid,
                       owner.host, age);
  return owner.seconds_since_update < kLongSilence
             ? ""
             : fmt::format("process {} is alive, {}", owner.pid, age);
}

std::string plot_of(const View& view, const TerminalSize& size, bool braille) {
  const RunRecord& run = view.run;
  const std::string word = word_on_process(view);
  chart::TerminalPlot plot{.title = headline(view),
                           .x_label = "step",
                           .x = {},
                           .y = {},
                           .columns = size.columns,
                           .rows = size.rows - (word.empty() ? 1 : 2),
                           .braille = braille};
  if (const Curve* loss = run.find("loss")) {
    plot.x = loss->step;
    plot.y = loss->value;
  }
  return draw(plot) + word;
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
  View view = look_at(options.run);
  while (terminal) {
    constexpr const char* kHomeAndClear = "\x1b[H\x1b[J";
    session.say(kHomeAndClear + plot_of(view, terminal_size(), braille));
    if (has_ended(view.run) || view.is_abandoned() || core::is_stop(core::stop_bits())) break;
    wait(options.seconds);
    view = look_at(options.run);
  }
  if (!terminal) session.say(plot_of(view, {}, braille));
  const RunRecord& run = view.run;
  nlohmann::json result = {{"run", run.path.string()},
                           {"state", run.state},
                           {"process", name_of(view.owner.state)},
                           {"seconds_since_update", view.owner.seconds_since_update}};
  for (const char* curve : {"loss", "val_loss"})
    if (std::isfinite(run.last(curve))) result[curve] = run.last(curve);
  return result;
}

}  // namespace trainer
