// Tokens of words seen before. A direct-mapped table of fixed size: a word has one slot, the last
// word to claim it owns it. Text repeats itself, so most words are found here and not merged again.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace data {

class BpeCache {
 public:
  BpeCache() : slots_(size_t{1} << kBits) {}

  // Appends the word's tokens and returns true, if it is here.
  bool find(std::string_view word, std::vector<uint32_t>& ids) const {
    if (word.size() > kMaxBytes) return false;
    const Key key = key_of(word);
    const Slot& slot = slots_[index_of(key)];
    if (slot.count == 0 || slot.key != key) return false;
    ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
    return true;
  }

  void store(std::string_view word, const uint32_t* ids, size_t count) {
    if (word.size() > kMaxBytes || count == 0 || count > kMaxTokens) return;
    const Key key = key_of(word);
    Slot& slot = slots_[index_of(key)];
    slot.key = key;
    slot.count = static_cast<uint32_t>(count);
    std::memcpy(slot.ids.data(), ids, count * sizeof(uint32_t));
  }

 private:
  static constexpr int kBits = 15;
  static constexpr size_t kMaxBytes = 23, kMaxTokens = 9;
  using Key = std::array<uint64_t, 3>;  // the bytes, zero padded, then the length in the last byte
  struct Slot {                         // one cache line
    Key key{};
    uint32_t count = 0;  // 0: empty
    std::array<uint32_t, kMaxTokens> ids{};
  };

  static Key key_of(std::string_view word) {
    Key key{};
    std::memcpy(key.data(), word.data(), word.size());
    key[2] |= uint64_t{word.size()} << 56;
    return key;
  }
  static size_t index_of(const Key& key) {
    uint64_t h = key[0] * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 32 ^ key[1]) * 0xC2B2AE3D27D4EB4Fu;
    h = (h ^ h >> 32 ^ key[2]) * 0x165667B19E3779F9u;
    return static_cast<size_t>(h >> (64 - kBits));
  }

  std::vector<Slot> slots_;
};

}  // namespace data
