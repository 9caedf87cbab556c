#include "data/bpe_boundaries.h"

#include "data/utf8.h"

namespace data {

void MergeBoundaries::join_as_other(std::string_view text) {
  const uint8_t first = class_of(code_point_at(text, 0).value);
  const uint8_t last = class_of(code_point_at(text, previous_code_point(text, text.size())).value);
  for (size_t c = 0; c < kClasses; ++c) {
    if (joined_[last * kClasses + c]) joined_[kOther * kClasses + c] = true;
    if (joined_[c * kClasses + first]) joined_[c * kClasses + kOther] = true;
  }
}

size_t MergeBoundaries::next_cut(std::string_view text, size_t begin) const {
  CodePoint c = code_point_at(text, begin);
  uint8_t left = class_of(c.value);
  for (size_t at = begin + c.length; at < text.size(); at += c.length) {
    const auto byte = static_cast<unsigned char>(text[at]);
    c = byte < kMark ? CodePoint{byte, 1} : code_point_at(text, at);
    const uint8_t right = class_of(c.value);
    if (!joined_[left * kClasses + right]) return at;
    left = right;
  }
  return text.size();
}

}  // namespace data
