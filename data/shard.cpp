#include "data/shard.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "core/error.h"
#include "core/hash.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr uint64_t kMaxMetadataBytes = uint64_t{1} << 16, kMaxRecordBytes = uint64_t{1} << 24;

fs::path beside(const fs::path& path, const char* suffix) { return path.string() + suffix; }

// A file beside the shard may be missing, but not beyond knowing.
bool is_there(const fs::path& path) {
  std::error_code error;
  const bool there = fs::exists(path, error);
  if (error) core::fail_errno("stat", path, error.value());
  return there;
}

bool is_hash(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

core::MappedFile map_shard(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error) && !error)
    core::fail(ExitCode::kMissingInput,
               {.path = path,
                .field = "shard",
                .expected = "a .ds file",
                .found = "nothing",
                .hint = "write it with: mha2mla tokenize --tokenizer MODEL --out " +
                        fs::path(path).replace_extension().string() + " INPUT..."});
  return core::MappedFile(path);
}

}  // namespace

Shard::Stamp Shard::stamp_of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) core::fail_errno("stat", path, errno);
  return {static_cast<uint64_t>(info.st_size), info.st_ino, info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec};
}

Shard::Shard(const fs::path& path, int64_t vocab_size)
    : file_(map_shard(path)), stamp_(stamp_of(path)), vocab_size_(vocab_size) {
  check_unchanged();
  const std::optional<ShardMetadata> metadata = read_metadata();
  ids_.emplace(path.string(), file_.bytes(), known_token_size(metadata));
  if (metadata && metadata->tokens != tokens())
    core::fail(ExitCode::kBadData,
               {.path = beside(path, ".metadata"),
                .place = "2",
                .field = "tokens",
                .expected = std::to_string(tokens()) + " (size of the .ds)",
                .found = std::to_string(metadata->tokens),
                .hint = "the shard is truncated or the files do not belong together"});
  if (const fs::path index = beside(path, ".index"); is_there(index))
    check_document_index(index.string(), core::MappedFile(index).bytes(), tokens());
}

std::optional<ShardMetadata> Shard::read_metadata() const {
  const fs::path path = beside(file_.path(), ".metadata");
  if (!is_there(path)) return std::nullopt;
  return parse_shard_metadata(path.string(), core::read_text(path, kMaxMetadataBytes));
}

int Shard::known_token_size(const std::optional<ShardMetadata>& metadata) const {
  if (!metadata && vocab_size_ == 0)
    core::fail(ExitCode::kBadData, {.path = path(),
                                    .field = "token size",
                                    .expected = "a .ds.metadata file or a known vocabulary size",
                                    .found = "neither"});
  const int size = metadata ? metadata->token_size : token_size_of_vocab(vocab_size_);
  if (size == 2 && vocab_size_ > kMaxVocabOf2Bytes)
    core::fail(ExitCode::kBadData,
               {.path = path(),
                .field = "token size",
                .expected = "4 bytes for a vocabulary of " + std::to_string(vocab_size_),
                .found = "2",
                .hint = "the shard was written with another tokenizer: tokenize again"});
  return size;
}

void Shard::check_unchanged() const {
  // A map of a file that shrank raises SIGBUS; a replaced file would change the data silently.
  const Stamp now = stamp_of(file_.path());
  if (now == stamp_ && now.size == bytes()) return;
  core::fail(ExitCode::kBadData,
             {.path = file_.path(),
              .field = "shard",
              .expected = fmt::format("the file that was opened, {} bytes", bytes()),
              .found = fmt::format("a changed file of {} bytes", now.size),
              .hint = "do not rewrite shards that a run reads"});
}

void Shard::read(int64_t begin, int64_t count, int32_t* out) const {
  check_unchanged();
  ids_->copy(begin, count, vocab_size_ > 0 ? vocab_size_ : int64_t{1} << 31, out);
}

int64_t Shard::max_token_id() const {
  check_unchanged();
  return ids_->max_id();
}

void Shard::check_vocab(int64_t vocab_size) const {
  check_unchanged();
  ids_->check_vocab(vocab_size);
}

bool Shard::verify_content() const {
  const fs::path path = beside(file_.path(), ".json");
  if (!is_there(path)) return false;
  const std::string recorded =
      parse_recorded_hash(path.string(), core::read_text(path, kMaxRecordBytes));
  if (!is_hash(recorded))
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "xxh3_128",
                                    .expected = "32 hexadecimal digits",
                                    .found = fmt::format("\"{}\"", recorded.substr(0, 80))});
  check_unchanged();
  const std::string actual = core::hash_hex(file_.bytes());
  if (recorded != actual)
    core::fail(ExitCode::kBadData, {.path = file_.path(),
                                    .field = "content hash",
                                    .expected = recorded,
                                    .found = actual,
                                    .hint = "the shard is damaged: tokenize or copy it again"});
  return true;
}

std::string Shard::fingerprint() const {
  constexpr size_t kEdge = size_t{1} << 20;
  const size_t edge = std::min<size_t>(kEdge, bytes());
  const uint64_t head[] = {bytes(), static_cast<uint64_t>(token_size())};
  check_unchanged();
  core::Hasher hasher;
  hasher.update(head, sizeof head);
  hasher.update(file_.bytes().data(), edge);
  hasher.update(file_.bytes().last(edge).data(), edge);
  return hasher.hex();
}

}  // namespace data
