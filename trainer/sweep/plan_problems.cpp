#include "trainer/sweep/plan_problems.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/error.h"

namespace trainer {
namespace {

// How the lines begin that are said of overrides.
std::vector<std::string> prefixes_of(const std::vector<SweepSetting>& settings) {
  std::vector<std::string> prefixes;
  for (const SweepSetting& setting : settings) {
    const std::string shown = quoted_for_message(setting.override_text());
    prefixes.push_back(fmt::format("override {}:", shown.substr(1, shown.size() - 2)));
  }
  return prefixes;
}

}  // namespace

void PlanProblems::add(const std::string& message, const std::vector<SweepSetting>& settings) {
  ++refused_;
  const std::vector<std::string> prefixes = prefixes_of(settings);
  for (size_t begin = 0; begin < message.size() && lines_.size() < kMaxShown;) {
    const size_t end = std::min(message.find('\n', begin), message.size());
    const std::string line = message.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with("errors; nothing was started.")) continue;
    const std::string placed = with_place(line, settings, prefixes);
    if (seen_.insert(placed).second) lines_.push_back(placed);
  }
}

void PlanProblems::fail_if_any() const {
  if (lines_.empty()) return;
  std::string text = fmt::format("{}", fmt::join(lines_, "\n"));
  if (lines_.size() > 1)
    text += fmt::format("\n{}{} errors; nothing was started.", is_full() ? "the first " : "",
                        lines_.size());
  throw core::Error(core::ExitCode::kBadConfig, text);
}

std::string PlanProblems::with_place(const std::string& line,
                                     const std::vector<SweepSetting>& settings,
                                     const std::vector<std::string>& prefixes) const {
  for (size_t i = 0; i < settings.size(); ++i) {
    const Origin& origin = settings[i].value.origin;
    if (line.starts_with(prefixes[i]))
      return fmt::format("{}:{}:{}:{}", file_, origin.line, origin.column,
                         line.substr(prefixes[i].size()));
  }
  constexpr std::string_view kNoFile = "error:";
  return line.starts_with(kNoFile) ? fmt::format("{}: {}", file_, line) : line;
}

}  // namespace trainer
