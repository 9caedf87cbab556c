#include "trainer/config/scalars.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace trainer {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string describe_range(const Key& key, const std::string& kind) {
  const bool has_min = std::isfinite(key.min), has_max = std::isfinite(key.max);
  if (has_min && has_max)
    return fmt::format("{} in {}{}, {}{}", kind, key.exclude_min ? '(' : '[', key.min, key.max,
                       key.exclude_max ? ')' : ']');
  if (has_min) return fmt::format("{} {} {}", kind, key.exclude_min ? ">" : ">=", key.min);
  if (has_max) return fmt::format("{} {} {}", kind, key.exclude_max ? "<" : "<=", key.max);
  return kind;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_digit)) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_decimal(std::string_view text) {
  // from_chars alone would also take "inf", "nan" and "1.".
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || !is_digit(digits[0])) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0' && is_digit(digits[1])) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::optional<double> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<char, double>, 4> kUnits = {
      {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}}};
  constexpr double kMost = 10 * 365.25 * 86400;
  if (text.empty()) return std::nullopt;
  const auto value = parse_decimal(text.substr(0, text.size() - 1));
  for (const auto& [unit, seconds] : kUnits)
    if (text.back() == unit && value && *value > 0 && *value * seconds <= kMost)
      return *value * seconds;
  return std::nullopt;
}

bool looks_typed(std::string_view text) {
  static constexpr std::array<std::string_view, 17> kWords = {
      "",     "true", "false", "yes",   "no", "on", "off", "null", "~",
      ".inf", ".nan", "-.inf", "+.inf", "y",  "n",  "inf", "nan"};
  const std::string word = lower_case(text);
  if (std::find(kWords.begin(), kWords.end(), word) != kWords.end()) return true;
  std::string_view number = word;
  if (number[0] == '+' || number[0] == '-') number.remove_prefix(1);
  if (number.starts_with("0x") || number.starts_with("0o")) return true;
  if (number.empty() || (!is_digit(number[0]) && number[0] != '.')) return false;
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  return end == number.data() + number.size() && error != std::errc::invalid_argument;
}

std::string describe_integer(const Key& key) {
  // The upper end only keeps sizes sane; it is told when it is what was missed.
  if (key.min == 1) return "integer > 0";
  return std::isfinite(key.min) ? fmt::format("integer >= {}", key.min) : "integer";
}

std::string describe_number(const Key& key) { return describe_range(key, "number"); }

std::string describe_choices(const Key& key) {
  return key.choices.size() == 1 ? key.choices[0]
                                 : fmt::format("one of {}", fmt::join(key.choices, " | "));
}

bool is_in_range(const Key& key, double value) {
  const bool above = key.exclude_min ? value > key.min : value >= key.min;
  const bool below = key.exclude_max ? value < key.max : value <= key.max;
  return above && below;
}

std::string format_number(double value) {
  std::string text = fmt::format("{}", value);
  const size_t exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos)
    text.insert(exponent, ".0");
  return text;
}

std::string yaml_text(const std::string& text) {
  const bool is_safe = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == '/';
  });
  if (is_safe && !looks_typed(text) && text[0] != '-') return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace trainer
