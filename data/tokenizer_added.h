// Added tokens: strings found in the text before anything else looks at it, leftmost and longest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/bpe.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_normalizer.h"

namespace data {

struct AddedToken {
  uint32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // is looked for in normalized text
  bool special = false;
};

// Reads `added_tokens`; throws kBadData for ids that collide with the model's or one another's, and
// for what would make a finder large or slow: spellings, also normalized ones, above 256 bytes or
// above 1 MiB together.
std::vector<AddedToken> parse_added_tokens(const std::optional<JsonNode>& node, const Bpe& model,
                                           const Normalizer& normalizer);

// Finds a set of added tokens in a text, in time O(text x longest spelling).
class AddedTokenFinder {
 public:
  struct Segment {
    size_t begin, end;
    const AddedToken* token;  // null: text between tokens
  };

  // Takes the tokens whose `normalized` is as given, those in their normalized spelling.
  // Requires: `tokens` outlives the finder and does not move.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                   const Normalizer& normalizer);

  // Segments in order, none empty. Requires: valid UTF-8.
  std::vector<Segment> split(std::string_view text) const;

 private:
  struct Node {  // of a trie over the bytes of the patterns
    std::vector<std::pair<unsigned char, uint32_t>> children;  // by byte, ascending
    const AddedToken* token = nullptr;
  };
  void insert(const std::string& pattern, const AddedToken& token);
  uint32_t child(uint32_t node, char byte) const;  // 0: none
  // Length of the longest pattern at `at`, 0 if none; its token in `token`.
  size_t longest_match(std::string_view text, size_t at, const AddedToken*& token) const;

  std::vector<Node> nodes_;     // [0] is the root
  std::vector<uint32_t> root_;  // child of the root by byte, 0: none
};

}  // namespace data
