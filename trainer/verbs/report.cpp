#include "trainer/verbs/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/text.h"

namespace trainer {
namespace {

std::string format_value(const std::string& key, const Report& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  if (key.ends_with("bytes") && value.is_number_unsigned() && value.get<uint64_t>() >= 1024)
    return fmt::format("{} ({})", value.get<uint64_t>(), core::format_bytes(value.get<uint64_t>()));
  return value.dump(-1, ' ', false, Report::error_handler_t::replace);
}

bool is_table(const Report& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const Report& row) { return row.is_object(); });
}

std::string format_table(const Report& rows, const std::string& indent) {
  std::vector<std::string> keys;
  for (const auto& row : rows)
    for (const auto& [key, value] : row.items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  std::vector<std::vector<std::string>> lines = {keys};
  for (const auto& row : rows) {
    std::vector<std::string>& cells = lines.emplace_back();
    for (const std::string& key : keys)
      cells.push_back(row.contains(key) ? format_value(key, row[key]) : "");
  }
  std::vector<size_t> widths(keys.size(), 0);
  for (const auto& cells : lines)
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  std::string text;
  for (const auto& cells : lines) {
    std::string line = indent;
    for (size_t i = 0; i < cells.size(); ++i) line += fmt::format("{:<{}}  ", cells[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string format_object(const Report& object, const std::string& indent) {
  size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  std::string text;
  for (const auto& [key, value] : object.items()) {
    if (is_table(value))
      text += fmt::format("{}{}:\n{}", indent, key, format_table(value, indent + "  "));
    else if (value.is_object() && !value.empty())
      text += fmt::format("{}{}:\n{}", indent, key, format_object(value, indent + "  "));
    else
      text += fmt::format("{}{:<{}}  {}\n", indent, key, width, format_value(key, value));
  }
  return text;
}

}  // namespace

std::string format_report(const Report& report) {
  std::string text = format_object(report, "");
  if (!text.empty()) text.pop_back();  // the last line break
  return text;
}

}  // namespace trainer
