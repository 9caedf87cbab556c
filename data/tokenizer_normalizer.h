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
  // Requires: valid UTF-8. Throws kBadData when the text outgrows most_rewritten_bytes().
  std::string operator()(std::string text) const;

 private:
  using Step = std::function<std::string(std::string text, size_t most)>;
  void add(const JsonNode& node);

  std::vector<Step> steps_;
};

// Components after one another can each double a text. More than this is no tokenizer but an
// attack.
inline constexpr size_t kMaxComponents = 64;
constexpr size_t most_rewritten_bytes(size_t bytes) { return 32 * bytes + 65'536; }

// Throws kBadData when the result has more than `most` bytes.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        size_t most = SIZE_MAX);

// {"pattern": {"String": P}, "content": C}; shared with the decoder of the same name.
struct Replacement {
  std::string pattern, content;
};
Replacement parse_replacement(const JsonNode& node);

}  // namespace data
