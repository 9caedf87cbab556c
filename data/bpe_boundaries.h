// Places where a text can be cut before byte-pair encoding without a change of its tokens.
//
// Between two characters that are tokens of their own, a token can only reach across if it, or one
// it is made of, was merged from a left part that ends with the first and a right part that begins
// with the second. Where no merge of the model does that, both sides are encoded independently.
// In a model of the SentencePiece kind no merge has anything to the left of a space mark, so that
// its texts, which no pre-tokenizer cuts, fall into words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace data {

class MergeBoundaries {
 public:
  static constexpr char32_t kSpaceMark = 0x2581;

  // Cuts nowhere.
  MergeBoundaries() { joined_.fill(true); }

  // Cuts wherever no pair is joined. `is_token(c)`: the character is a token of its own. Only ASCII
  // and the space mark are told apart; next to any other character, a cut needs that no merge joins
  // any such one.
  template <class IsToken>
  static MergeBoundaries none_joined(IsToken&& is_token) {
    MergeBoundaries boundaries;
    boundaries.joined_.fill(false);
    for (char32_t c = 0; c < kMark; ++c)
      if (!is_token(c)) boundaries.class_of_ascii_[c] = kOther;
    boundaries.mark_class_ = is_token(kSpaceMark) ? kMark : kOther;
    // Two characters without tokens can become one unknown token.
    boundaries.joined_[kOther * kClasses + kOther] = true;
    return boundaries;
  }

  // A merge has a left part that ends with `left` and a right part that begins with `right`.
  void join(char32_t left, char32_t right) {
    joined_[class_of(left) * kClasses + class_of(right)] = true;
  }
  // The same after, or before, what stands for characters without a token: `text` is such a token
  // (<0x0A>, the unknown token). Requires: all merges are joined.
  void join_as_other(std::string_view text);

  // The end of the piece that begins at `begin`. Requires: valid UTF-8, begin < text.size().
  size_t next_cut(std::string_view text, size_t begin) const;

 private:
  static constexpr uint8_t kMark = 128, kOther = 129;  // below: ASCII
  static constexpr size_t kClasses = 130;

  uint8_t class_of(char32_t c) const {
    return c < kMark ? class_of_ascii_[c] : c == kSpaceMark ? mark_class_ : kOther;
  }
  static constexpr std::array<uint8_t, kMark> identity() {
    std::array<uint8_t, kMark> classes{};
    for (size_t c = 0; c < classes.size(); ++c) classes[c] = static_cast<uint8_t>(c);
    return classes;
  }

  std::array<uint8_t, kMark> class_of_ascii_ = identity();
  uint8_t mark_class_ = kOther;
  std::array<bool, kClasses * kClasses> joined_;  // left class, right class
};

}  // namespace data
