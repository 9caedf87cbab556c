// What the files of a Nanoset shard (shard.h) say, from their bytes: the checks that need no file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace data {

// FILE.ds.metadata: "tokenizer|token size", number of tokens, the same for humans.
struct ShardMetadata {
  int token_size = 0;  // 2 or 4
  int64_t tokens = 0;
};
ShardMetadata parse_shard_metadata(const std::string& path, const std::string& text);

// FILE.ds.index: uint64 per document, rising to `tokens`.
void check_document_index(const std::string& path, std::span<const std::byte> index,
                          int64_t tokens);

// FILE.ds.json: the XXH3-128 of the .ds that it records.
std::string parse_recorded_hash(const std::string& path, const std::string& text);

// The ids of a .ds: little-endian, 2 or 4 bytes each. Every function throws kBadData naming `path`
// and position.
class TokenBytes {
 public:
  // Requires: token_size is 2 or 4; `bytes` outlives the object. Refuses a size that holds no
  // whole number of tokens, and none at all.
  TokenBytes(std::string path, std::span<const std::byte> bytes, int token_size);

  int64_t size() const { return size_; }
  int token_size() const { return token_size_; }
  // Requires: 0 <= position < size().
  uint32_t operator[](int64_t position) const;

  // Copies ids [begin, begin + count) to `out` [count]; every id must be below `vocab_size`.
  // A range outside the shard is kInternal.
  void copy(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const;
  int64_t max_id() const;
  void check_vocab(int64_t vocab_size) const;

 private:
  [[noreturn]] void refuse(int64_t position, int64_t vocab_size) const;

  std::string path_;
  std::span<const std::byte> bytes_;
  int token_size_;
  int64_t size_;
};

}  // namespace data
