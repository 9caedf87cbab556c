#include "data/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "data/utf8.h"

namespace data {

MergeTable::MergeTable(size_t capacity)
    : slots_(std::bit_ceil(2 * capacity + 2)),
      shift_(64 - std::countr_zero(slots_.size())),
      factors_{core::table_seed() | 1, core::table_hash("merges") | 1} {}

void MergeTable::insert_or_assign(uint32_t left, uint32_t right, uint32_t rank) {
  const uint64_t pair = uint64_t{left} << 32 | right;
  slots_[slot_of(pair)] = {pair, rank};
}

size_t MergeTable::longest_run() const {
  size_t longest = 0, run = 0;
  for (size_t i = 0; i < 2 * slots_.size() && run < slots_.size(); ++i) {  // twice: runs may wrap
    run = slots_[i & (slots_.size() - 1)].rank == kAbsent ? 0 : run + 1;
    longest = std::max(longest, run);
  }
  return longest;
}

std::optional<uint32_t> Bpe::token_id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* Bpe::token(uint32_t id) const {
  return id < tokens_.size() ? tokens_[id] : nullptr;
}

uint32_t Bpe::code_point_id(std::string_view text, char32_t code_point) const {
  if (code_point < code_point_ids_.size()) return code_point_ids_[code_point];
  return token_id(text).value_or(kNone);
}

void Bpe::encode_word(std::string_view word, Workspace& work, std::vector<uint32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto whole = token_id(word)) {
      ids.push_back(*whole);
      return;
    }
  }
  if (word.empty()) return;
  spell(word, work);
  merge_all(work);
  for (uint32_t i = 0; i != kNone; i = work.symbols[i].next) ids.push_back(work.symbols[i].id);
}

// One symbol per code point, or per byte for a code point that only byte fallback can spell.
void Bpe::spell(std::string_view word, Workspace& work) const {
  if (word.size() >= kNone) {
    core::fail(core::ExitCode::kBadData, {.field = "text",
                                          .expected = "words below 4 GiB",
                                          .found = fmt::format("{} bytes", word.size())});
  }
  auto& symbols = work.symbols;
  symbols.clear();
  const auto add = [&](uint32_t id) {
    const auto i = static_cast<uint32_t>(symbols.size());
    symbols.push_back({id, i - 1, i + 1});
  };
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const CodePoint c = code_point_at(word, at);
    const std::string_view text = word.substr(at, c.length);
    const uint32_t id = code_point_id(text, c.value);
    at += c.length;
    if (id != kNone) {
      add(id);
    } else if (byte_fallback_) {
      for (const char byte : text) add(byte_ids_[static_cast<unsigned char>(byte)]);
    } else if (unknown_id_ == kNone) {
      core::fail(core::ExitCode::kBadData,
                 {.field = "text",
                  .expected = "characters the tokenizer has tokens for (it has no unknown token)",
                  .found = fmt::format("U+{:04X}", static_cast<uint32_t>(c.value))});
    } else if (!(after_unknown && fuse_unknown_)) {
      add(unknown_id_);
    }
    after_unknown = id == kNone && !byte_fallback_;
  }
  symbols.front().previous = kNone;
  symbols.back().next = kNone;
}

// Invariant: symbols form a list from symbol 0; an entry of the heap is stale unless its symbol and
// the next one are still the two parts of its merge. A symbol merged into its left neighbour has
// id kNone, which is part of no merge.
void Bpe::merge_all(Workspace& work) const {
  auto& symbols = work.symbols;
  auto& heap = work.heap;
  const auto candidate = [&](uint32_t left) {
    const uint32_t rank = ranks_.rank(symbols[left].id, symbols[symbols[left].next].id);
    if (rank == MergeTable::kAbsent) return false;
    heap.push_back(uint64_t{rank} << 32 | left);
    ++work.heap_entries;
    return true;
  };
  heap.clear();
  work.heap_entries = 0;
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) candidate(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Merge& merge = merges_[heap.back() >> 32];
    const auto at = static_cast<uint32_t>(heap.back());
    heap.pop_back();
    auto& left = symbols[at];
    if (left.id != merge.left || left.next == kNone || symbols[left.next].id != merge.right)
      continue;
    auto& right = symbols[left.next];
    left.id = merge.result;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) {
      symbols[left.next].previous = at;
      if (candidate(at)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
    if (left.previous != kNone && candidate(left.previous))
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
}

}  // namespace data
