// Decoders: null, Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace. Each rewrites
// the list of token strings; the text is what is left, joined.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer_json.h"

namespace data {

class TokenDecoder {
 public:
  // Nothing (JSON null) means tokens joined by spaces. Throws kBadData for what it does not
  // implement.
  static TokenDecoder parse(const std::optional<JsonNode>& node);

  std::string operator()(std::vector<std::string> tokens) const;

 private:
  using Tokens = std::vector<std::string>;
  void add(const JsonNode& node);

  using Step = std::function<Tokens(Tokens tokens, size_t most)>;  // bytes of all together

  std::vector<Step> steps_;
  std::string separator_;
};

}  // namespace data
