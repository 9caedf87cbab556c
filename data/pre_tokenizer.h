// Pre-tokenizers: null, Sequence, Split (known patterns), Digits, ByteLevel, Metaspace. They cut
// normalized text into words; merges never cross a word.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "data/tokenizer_json.h"

namespace data {

class PreTokenizer {
 public:
  // A stretch of text; `first` if it begins where the document begins.
  struct Piece {
    std::string_view text;
    bool first = false;
  };
  using Sink = std::function<void(Piece)>;

  // Nothing (JSON null) means that the whole text is one word. Throws kBadData for what it does not
  // implement.
  static PreTokenizer parse(const std::optional<JsonNode>& node);

  // Passes the words of `piece` to `sink` in order, none empty; a word's text is valid only during
  // the call. Requires: valid UTF-8. Thread-safe.
  void split(Piece piece, const Sink& sink) const { run(0, piece, sink); }

  // True if words must be spelled in the byte-level alphabet before they are looked up.
  bool byte_level() const { return byte_level_; }

 private:
  using Step = std::function<void(Piece, const Sink&)>;
  void add(const JsonNode& node);
  void add_split(const JsonNode& node);
  void add_byte_level(const JsonNode& node);
  void add_metaspace(const JsonNode& node);
  void run(size_t step, Piece piece, const Sink& sink) const;

  std::vector<Step> steps_;
  bool byte_level_ = false, metaspace_ = false;
};

}  // namespace data
