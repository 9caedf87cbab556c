// One Nanoset token shard, memory mapped.
//   FILE.ds           token ids, little-endian, 2 or 4 bytes each, no header
//   FILE.ds.index     uint64 per document: its end in tokens (exclusive), rising; last == tokens
//   FILE.ds.metadata  text: "tokenizer|token size", number of tokens, the same for humans
//   FILE.ds.json      what `mha2mla tokenize` did; holds an XXH3-128 of the .ds
// Only the .ds is required; the others are checked when they are there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/file.h"
#include "data/shard_files.h"

namespace data {

// Ids of larger vocabularies do not fit into 2 bytes.
constexpr int64_t kMaxVocabOf2Bytes = 65536;

inline int token_size_of_vocab(int64_t vocab_size) {
  return vocab_size > kMaxVocabOf2Bytes ? 4 : 2;
}

class Shard {
 public:
  // `vocab_size` 0: unknown; then the token size must be in the metadata, and ids are only checked
  // to fit into int32. Throws kMissingInput when there is no such file, kBadData when the files do
  // not fit together.
  explicit Shard(const std::filesystem::path& path, int64_t vocab_size = 0);

  const std::filesystem::path& path() const { return file_.path(); }
  int64_t tokens() const { return ids_->size(); }
  int token_size() const { return ids_->token_size(); }
  uint64_t bytes() const { return file_.bytes().size(); }

  // Copies tokens [begin, begin + count) to `out` [count]. Every id written is below the vocabulary
  // size. Requires: the range lies inside the shard. Throws kBadData naming the first id that is
  // out of range, or when the file was changed since it was opened.
  void read(int64_t begin, int64_t count, int32_t* out) const;

  // The largest id in the file, by a scan of all of it.
  int64_t max_token_id() const;

  // Scans all of it; throws kBadData with the position of the first id >= vocab_size.
  void check_vocab(int64_t vocab_size) const;

  // Compares the content with the hash in FILE.ds.json: throws kBadData when they differ, returns
  // false when there is no such record.
  bool verify_content() const;

  // XXH3-128 of size, token size, first and last MiB: notices another file at little cost.
  std::string fingerprint() const;

 private:
  // What a replaced or rewritten file does not keep.
  struct Stamp {
    uint64_t size = 0, inode = 0;
    int64_t seconds = 0, nanoseconds = 0;
    bool operator==(const Stamp&) const = default;
  };

  static Stamp stamp_of(const std::filesystem::path& path);
  void check_unchanged() const;
  std::optional<ShardMetadata> read_metadata() const;
  int known_token_size(const std::optional<ShardMetadata>& metadata) const;

  core::MappedFile file_;
  Stamp stamp_;
  int64_t vocab_size_;
  std::optional<TokenBytes> ids_;  // Invariant: set by the constructor
};

}  // namespace data
