#include "data/byte_level.h"

#include <array>
#include <cstdint>

#include "data/utf8.h"

namespace data {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

constexpr std::array<char32_t, 256> kCodePoints = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) table[byte] = stands_for_itself(byte) ? byte : next++;
  return table;
}();

constexpr int16_t kNoByte = -1;

constexpr std::array<int16_t, kByteLevelEnd> kBytes = [] {
  std::array<int16_t, kByteLevelEnd> table{};
  table.fill(kNoByte);
  for (unsigned byte = 0; byte < 256; ++byte) table[kCodePoints[byte]] = static_cast<int16_t>(byte);
  return table;
}();

}  // namespace

char32_t byte_level_code_point(unsigned char byte) { return kCodePoints[byte]; }

void append_byte_level(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) append_utf8(out, kCodePoints[static_cast<unsigned char>(byte)]);
}

void append_byte_level_decoded(std::string& out, std::string_view token) {
  const size_t start = out.size();
  for (size_t at = 0; at < token.size();) {
    const CodePoint c = code_point_at(token, at);
    if (c.value >= kByteLevelEnd || kBytes[c.value] == kNoByte) {
      out.resize(start);
      out.append(token);
      return;
    }
    out.push_back(static_cast<char>(kBytes[c.value]));
    at += c.length;
  }
}

}  // namespace data
