// Small text helpers shared by messages and reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace core {

// The candidate nearest to `word` (Damerau-Levenshtein distance at most 2 and half of the word, or
// a shared prefix of at least 4 characters); empty if none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "1.5 MiB", "12.3k", "01:02:03".
std::string format_bytes(uint64_t bytes);
std::string format_count(double count);
std::string format_duration(double seconds);
// "1 rank", "2 ranks".
std::string plural(int64_t count, std::string_view noun);

// Byte offset of the first byte that is not valid UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text);

}  // namespace core
