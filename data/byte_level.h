// The byte-level alphabet: every byte is one printable code point. Bytes 33-126, 161-172, 174-255
// stand for themselves; the other 68, in order, are U+0100 + n (space is U+0120).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace data {

inline constexpr char32_t kByteLevelEnd = 0x100 + 68;  // one past the largest code point

char32_t byte_level_code_point(unsigned char byte);

// The text in the alphabet, as UTF-8. Appends to `out`.
void append_byte_level(std::string& out, std::string_view bytes);

// The bytes a token stands for; a token with a code point outside the alphabet (an added token)
// stands for its own bytes. Appends to `out`. Requires: valid UTF-8.
void append_byte_level_decoded(std::string& out, std::string_view token);

}  // namespace data
