// Normalizers: null, Sequence, Prepend, Replace (literal pattern), NFC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_json.h"

namespace data {

class Normalizer {
 public:
  // Nothing (JSON null) means the identity. Throws kBadData for what it does not implement.
  static Normalizer parse(const std::optional<JsonNode>& node);

  bool is_identity() const { return steps_.empty(); }
  // Takes the size of the result off `budget`, the bytes that may yet be made of a text; throws
  // kBadData when the result, or the text between two components, has more. Requires: valid UTF-8.
  std::string operator()(std::string text, size_t& budget) const;
  // The same with most_rewritten_bytes() of the text.
  std::string operator()(std::string text) const;

 private:
  using Step = std::function<std::string(std::string text, size_t most)>;
  void add(const JsonNode& node);

  std::vector<Step> steps_;
};

// What may be made of a whole text, all stretches between its added tokens together. Real
// normalizers need 6 bytes for one: a space that becomes U+2581 and one more before it.
constexpr size_t most_rewritten_bytes(size_t bytes) { return 32 * bytes + 4096; }

// Throws kBadData when the result has more than `most` bytes.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        size_t most = SIZE_MAX);

// {"pattern": {"String": P}, "content": C}, each at most kMaxReplacedBytes; shared with the decoder
// of the same name. Why so few: the search compares up to a whole pattern at every byte of a text.
inline constexpr size_t kMaxReplacedBytes = 256;
struct Replacement {
  std::string pattern, content;
};
Replacement parse_replacement(const JsonNode& node);

}  // namespace data
