// Code points of valid UTF-8, the few Unicode classes a tokenizer asks for, and the repair of bytes
// that are not UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace data {

struct CodePoint {
  char32_t value;
  size_t length;  // bytes, 1 to 4
};

// Requires: `text` is valid UTF-8 and `at` < text.size() is the start of a code point.
CodePoint code_point_at(std::string_view text, size_t at);

// Start of the code point that ends at `end`. Requires: valid UTF-8, end > 0.
size_t previous_code_point(std::string_view text, size_t end);

void append_utf8(std::string& out, char32_t code_point);

// Every maximal ill-formed run (Unicode 3.9, table 3-8) becomes one U+FFFD.
std::string repair_utf8(std::string_view bytes);

bool is_number(char32_t c);       // general category N: Nd, Nl, No
bool is_white_space(char32_t c);  // property White_Space (U+180E is not)
bool is_word(char32_t c);         // UTS #18 word character: Alphabetic, M, Nd, Pc, Join_Control

}  // namespace data
