// Byte-pair encoding: a word's code points become tokens, then the neighbours whose merge has the
// lowest rank (leftmost first) become one token, until no merge applies. O(n log n) for n symbols.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/hash.h"
#include "data/bpe_boundaries.h"
#include "data/byte_level.h"
#include "data/tokenizer_json.h"

namespace data {

// Of tokens, which a file chooses.
struct TokenHash {
  using is_transparent = void;
  size_t operator()(std::string_view token) const { return core::table_hash(token); }
};

// (left token, right token) -> rank. Open addressing: two probes for every merge of every word.
class MergeTable {
 public:
  static constexpr uint32_t kAbsent = UINT32_MAX;

  explicit MergeTable(size_t capacity = 0);
  void insert_or_assign(uint32_t left, uint32_t right, uint32_t rank);
  uint32_t rank(uint32_t left, uint32_t right) const {
    return slots_[slot_of(uint64_t{left} << 32 | right)].rank;
  }
  size_t longest_run() const;  // of taken slots: no probe looks at more, the measure of its cost

 private:
  struct Slot {
    uint64_t pair = 0;
    uint32_t rank = kAbsent;
  };
  size_t slot_of(uint64_t pair) const {
    const uint64_t mixed = pair * factors_[0];
    size_t i = static_cast<size_t>((mixed ^ mixed >> 32) * factors_[1] >> shift_);
    while (slots_[i].rank != kAbsent && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<Slot> slots_;  // power of two, at most half full
  int shift_;
  std::array<uint64_t, 2> factors_;  // odd and secret: a file cannot choose pairs that collide
};

// The `model` of a tokenizer.json of type BPE.
class Bpe {
 public:
  // Working memory of encode_word; reused between calls, never shared between threads.
  struct Workspace {
    struct Symbol {
      uint32_t id, previous, next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;  // rank << 32 | symbol; the smallest on top
    uint64_t heap_entries = 0;   // ever pushed for the last word, the measure of its cost
  };

  // Validates everything; throws kBadData naming file and path. `byte_level`: words come in the
  // byte-level alphabet.
  static Bpe parse(const JsonNode& model, bool byte_level);

  // Appends the tokens of one word. Throws kBadData for a code point without a token if the model
  // has no unknown token. Requires: valid UTF-8, fewer than 2^32 - 1 bytes.
  void encode_word(std::string_view word, Workspace& work, std::vector<uint32_t>& ids) const;

  // The end of the piece of `word` that begins at `begin`: encoded one after the other, the pieces
  // have the tokens of the word. Requires: valid UTF-8, begin < word.size().
  size_t next_cut(std::string_view word, size_t begin) const {
    return boundaries_.next_cut(word, begin);
  }

  std::optional<uint32_t> token_id(std::string_view token) const;
  const std::string* token(uint32_t id) const;    // null if no token has this id
  size_t size() const { return tokens_.size(); }  // largest id + 1
  size_t unused_ids() const { return tokens_.size() - ids_.size(); }

 private:
  struct Merge {
    uint32_t left, right, result;
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  void read_vocab(const JsonNode& vocab);
  void read_merges(const JsonNode& merges);
  void add_merge(const JsonNode& merge, const std::string& left, const std::string& right);
  void read_unknown(const JsonNode& model);
  void index_code_points();
  void find_boundaries();
  void check_coverage(const JsonNode& model, bool byte_level) const;
  uint32_t code_point_id(std::string_view text, char32_t code_point) const;
  void spell(std::string_view word, Workspace& work) const;
  void merge_all(Workspace& work) const;

  std::unordered_map<std::string, uint32_t, TokenHash, std::equal_to<>> ids_;
  std::vector<const std::string*> tokens_;  // by id; keys of ids_
  std::vector<Merge> merges_;               // by rank
  MergeTable ranks_;
  std::array<uint32_t, kByteLevelEnd> code_point_ids_{};  // kNone where there is no token
  std::array<uint32_t, 256> byte_ids_{};                  // <0x00> ... <0xFF>, if byte_fallback_
  MergeBoundaries boundaries_;
  uint32_t unknown_id_ = kNone;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace data
