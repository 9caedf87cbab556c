// Writes one Nanoset shard (shard.h): PREFIX.ds, .ds.index, .ds.metadata and .ds.json. Documents go
// in one after the other; the files appear together at the end, the .ds last, or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/hash.h"

namespace data {

// What produced the tokens; recorded in PREFIX.ds.json.
struct ShardOrigin {
  std::string tokenizer_name;
  std::string tokenizer_hash;
  int64_t vocab_size = 0;          // ids must lie below it; decides the token size
  std::optional<uint32_t> eos_id;  // appended to every document; none: documents end as they are
  std::string key;                 // of .jsonl input
  std::vector<std::string> inputs;
};

class ShardWriter {
 public:
  // `prefix` with or without the ending ".ds"; its folder is made. Throws kBadConfig when the
  // vocabulary size is not in [1, 2^31) or the eos id is not below it.
  ShardWriter(const std::filesystem::path& prefix, ShardOrigin origin);

  // Appends one document (and the eos id). Throws kBadData for an id >= vocab_size.
  void append(std::span<const uint32_t> ids);

  // Writes what is left and makes the files appear. Throws kBadData when there are no tokens.
  void finish();

  const std::filesystem::path& path() const { return path_; }  // PREFIX.ds
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }
  int token_size() const { return token_size_; }

 private:
  void put(uint32_t id);
  void flush();
  std::string metadata() const;
  std::string provenance() const;

  std::filesystem::path path_;
  ShardOrigin origin_;
  int token_size_;
  int64_t documents_ = 0, tokens_ = 0;
  std::vector<char> buffer_, index_buffer_;
  core::Hasher hasher_;
  core::AtomicFile data_, index_;
};

}  // namespace data
