// The regular expressions by which known tokenizer families cut text into words, run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

namespace data {

// Invariant: the pattern matches at least one code point at every position of every text, so
// cutting at its matches loses nothing. Only patterns known to have this property are offered.
class SplitPattern {
 public:
  // Nothing for a pattern that is not on the list: an arbitrary expression may take exponential
  // time or mean something else in another engine.
  static std::optional<SplitPattern> find(std::string_view source);
  static SplitPattern gpt2();

  // End of the match that starts at `at`, with `text` taken as the whole subject.
  // Requires: valid UTF-8, `at` < text.size() at a code point. Thread-safe.
  size_t match_end(std::string_view text, size_t at) const;

 private:
  struct Code;
  explicit SplitPattern(std::shared_ptr<const Code> code);

  std::shared_ptr<const Code> code_;
};

}  // namespace data
