#include "chart/text.h"

#include <fmt/format.h>

#include <cmath>

#include "core/text.h"

namespace chart {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_forbidden(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t' && c != '\n') || byte == 0x7f;
}

void append_escaped(std::string& out, std::string_view valid) {
  for (const char c : valid) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if (is_forbidden(c))
      out += kReplacement;
    else
      out += c;
  }
}

// U+FFFE and U+FFFF are UTF-8, but no characters of XML.
std::string replace_noncharacters(std::string text) {
  for (const std::string_view bad : {"\xEF\xBF\xBE", "\xEF\xBF\xBF"})
    for (size_t at = text.find(bad); at != std::string::npos; at = text.find(bad, at + 3))
      text.replace(at, bad.size(), kReplacement);
  return text;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t bad = core::find_invalid_utf8(text);
    append_escaped(out, text.substr(0, bad));
    if (bad == std::string::npos) break;
    out += kReplacement;
    text.remove_prefix(bad + 1);
  }
  return replace_noncharacters(std::move(out));
}

std::string format_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : "-";
}

std::string format_tick(double value) {
  const double size = std::abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return fmt::format("{:.3g}", value);
  if (size >= 1e12) return fmt::format("{:.4g}T", value / 1e12);
  if (size >= 1e9) return fmt::format("{:.4g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  return fmt::format("{:.4g}", value + 0.0);
}

}  // namespace chart
