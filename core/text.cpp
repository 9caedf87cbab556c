#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>

namespace core {
namespace {

// Optimal string alignment distance (insert, delete, replace, swap neighbours); `limit` if it is
// not less. Candidates may be many, and long: what differs by `limit` in length is not looked at,
// and of the table only the band around the diagonal is computed in which a distance can be less.
size_t edit_distance(std::string_view a, std::string_view b, size_t limit) {
  if (std::max(a.size(), b.size()) - std::min(a.size(), b.size()) >= limit) return limit;
  std::vector<size_t> two_above(b.size() + 1, limit), above = two_above, row = two_above;
  for (size_t j = 0; j < std::min(b.size() + 1, limit); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(two_above, above);
    std::swap(above, row);
    const size_t begin = i < limit ? 1 : i - limit + 1;
    const size_t end = std::min(b.size() + 1, i + limit);
    row[begin - 1] = i < limit ? i : limit;
    if (end <= b.size()) row[end] = limit;
    for (size_t j = begin; j < end; ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
  }
  return std::min(row[b.size()], limit);
}

size_t shared_prefix(std::string_view a, std::string_view b) {
  const size_t n = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

// Length of the valid UTF-8 sequence at `p`, 0 if there is none (overlong forms, surrogates and
// code points above U+10FFFF are invalid).
size_t utf8_sequence_length(const unsigned char* p, size_t left) {
  const unsigned char c = p[0];
  if (c < 0x80) return 1;
  const auto continues = [&](size_t i, unsigned char low = 0x80, unsigned char high = 0xBF) {
    return i < left && p[i] >= low && p[i] <= high;
  };
  if (c >= 0xC2 && c <= 0xDF) return continues(1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    const unsigned char low = c == 0xE0 ? 0xA0 : 0x80, high = c == 0xED ? 0x9F : 0xBF;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    const unsigned char low = c == 0xF0 ? 0x90 : 0x80, high = c == 0xF4 ? 0x8F : 0xBF;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string* best = nullptr;
  size_t best_distance = std::min<size_t>(3, word.size() / 2 + 1);
  for (const std::string& c : candidates) {
    const size_t distance = edit_distance(word, c, best_distance);
    if (distance < best_distance) {
      best = &c;
      best_distance = distance;
    }
  }
  if (best != nullptr) return *best;
  size_t best_prefix = 3;
  for (const std::string& c : candidates) {
    if (shared_prefix(word, c) > best_prefix) {
      best = &c;
      best_prefix = shared_prefix(word, c);
    }
  }
  return best == nullptr ? std::string() : *best;
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(double count) {
  if (count >= 1e9) return fmt::format("{:.2f}G", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.2f}M", count / 1e6);
  if (count >= 1e3) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

std::string format_duration(double seconds) {
  constexpr double kLongest = 1e15;
  if (!(seconds < kLongest)) return "unknown";
  const auto s = static_cast<int64_t>(std::max(seconds, 0.0) + 0.5);
  return fmt::format("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string plural(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

size_t find_invalid_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  for (size_t i = 0; i < text.size();) {
    const size_t n = utf8_sequence_length(p + i, text.size() - i);
    if (n == 0) return i;
    i += n;
  }
  return std::string_view::npos;
}

}  // namespace core
