// Normalizers: null, Sequence, Prepend, Replace (literal pattern), NFC.
#pragma once

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
  // Requires: valid UTF-8.
  std::string operator()(std::string text) const;

 private:
  using Step = std::function<std::string(std::string)>;
  void add(const JsonNode& node);

  std::vector<Step> steps_;
};

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);

// {"pattern": {"String": P}, "content": C}; shared with the decoder of the same name.
struct Replacement {
  std::string pattern, content;
};
Replacement parse_replacement(const JsonNode& node);

}  // namespace data
