// Post-processors: null, Sequence, ByteLevel (concerns offsets only), TemplateProcessing. What
// matters for training is which tokens they put before and after a document.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_json.h"

namespace data {

struct TokenizerTemplate {
  using FindToken = std::function<std::optional<uint32_t>(std::string_view)>;

  // Throws kBadData for a component it does not implement or a token `find_token` does not know.
  static TokenizerTemplate parse(const std::optional<JsonNode>& node, const FindToken& find_token);

  std::vector<uint32_t> before, after;
  // "<s> $A". For a terminal: names that do not belong there are quoted, escaped and cut.
  std::string description = "$A";
};

}  // namespace data
