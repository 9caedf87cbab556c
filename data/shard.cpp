#include "data/shard.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

static_assert(std::endian::native == std::endian::little, "token ids are copied as they lie");

constexpr uint64_t kMaxMetadataBytes = uint64_t{1} << 16;

fs::path beside(const fs::path& path, const char* suffix) { return path.string() + suffix; }

std::optional<int64_t> parse_count(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// Takes one line off the front of `text`, without its line end.
std::string_view take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
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
  if (bytes() == 0)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "size",
                                    .expected = "tokens",
                                    .found = "an empty shard",
                                    .hint = "tokenize again and check the input and its text key"});
  token_size_ = read_metadata();
  if (token_size_ == 0 && vocab_size == 0)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "token size",
                                    .expected = "a .ds.metadata file or a known vocabulary size",
                                    .found = "neither"});
  if (token_size_ == 0) token_size_ = token_size_of_vocab(vocab_size);
  if (token_size_ == 2 && vocab_size > kMaxVocabOf2Bytes)
    core::fail(ExitCode::kBadData,
               {.path = path,
                .field = "token size",
                .expected = "4 bytes for a vocabulary of " + std::to_string(vocab_size),
                .found = "2",
                .hint = "the shard was written with another tokenizer: tokenize again"});
  const auto width = static_cast<uint64_t>(token_size_);
  if (bytes() % width != 0)
    core::fail(ExitCode::kBadData,
               {.path = path,
                .field = "size",
                .expected = "a multiple of the token size " + std::to_string(width),
                .found = std::to_string(bytes()) + " bytes",
                .hint = "the file is truncated or is no .ds shard"});
  tokens_ = static_cast<int64_t>(bytes() / width);
  check_metadata_count();
  check_index();
}

int Shard::read_metadata() {
  const fs::path path = beside(file_.path(), ".metadata");
  if (!fs::exists(path)) return 0;
  const std::string content = core::read_text(path, kMaxMetadataBytes);
  std::string_view text = content;
  const std::string_view first = take_line(text);
  // From the right: an unnamed tokenizer is written as "Unknown Tokenizer|2|2".
  const size_t bar = first.rfind('|');
  const auto size =
      bar == std::string_view::npos ? std::nullopt : parse_count(first.substr(bar + 1));
  if (size != 2 && size != 4)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = "1",
                                    .field = "token size",
                                    .expected = "\"TOKENIZER|2\" or \"TOKENIZER|4\"",
                                    .found = fmt::format("\"{}\"", first.substr(0, 80))});
  const std::string_view second = take_line(text);
  const auto count = parse_count(second);
  if (!count)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = "2",
                                    .field = "tokens",
                                    .expected = "a number of tokens",
                                    .found = fmt::format("\"{}\"", second.substr(0, 80))});
  metadata_tokens_ = *count;
  return static_cast<int>(*size);
}

void Shard::check_metadata_count() const {
  if (metadata_tokens_ < 0 || metadata_tokens_ == tokens_) return;
  core::fail(ExitCode::kBadData,
             {.path = beside(file_.path(), ".metadata"),
              .place = "2",
              .field = "tokens",
              .expected = std::to_string(tokens_) + " (size of the .ds)",
              .found = std::to_string(metadata_tokens_),
              .hint = "the shard is truncated or the files do not belong together"});
}

void Shard::check_index() const {
  const fs::path path = beside(file_.path(), ".index");
  if (!fs::exists(path)) return;
  const core::MappedFile index(path);
  const size_t size = index.bytes().size();
  const auto refuse = [&](const std::string& place, const std::string& expected,
                          const std::string& found) {
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = place,
                                    .field = "document index",
                                    .expected = expected,
                                    .found = found,
                                    .hint = "tokenize again or remove the index"});
  };
  if (size == 0 || size % sizeof(uint64_t) != 0)
    refuse("", "8 bytes per document", std::to_string(size) + " bytes");
  uint64_t previous = 0;
  for (size_t offset = 0; offset < size; offset += sizeof(uint64_t)) {
    uint64_t end;
    std::memcpy(&end, index.bytes().data() + offset, sizeof end);
    if (end < previous)
      refuse("byte " + std::to_string(offset), "an end >= " + std::to_string(previous),
             std::to_string(end));
    previous = end;
  }
  if (previous != static_cast<uint64_t>(tokens_))
    refuse("byte " + std::to_string(size - sizeof(uint64_t)),
           fmt::format("the last end to be {} (tokens in the .ds)", tokens_),
           std::to_string(previous));
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

uint32_t Shard::token(int64_t position) const {
  const std::byte* p = file_.bytes().data() + position * token_size_;
  uint32_t id = 0;  // little-endian: the low bytes of `id` are the bytes of the file
  std::memcpy(&id, p, token_size_ == 2 ? 2 : 4);
  return id;
}

void Shard::fail_token(int64_t position, int64_t vocab_size) const {
  core::fail(ExitCode::kBadData,
             {.path = file_.path(),
              .place = "token " + std::to_string(position),
              .field = "token id",
              .expected = "less than the vocabulary size " + std::to_string(vocab_size),
              .found = std::to_string(token(position)),
              .hint = "the shard was written with another tokenizer: tokenize again"});
}

void Shard::read(int64_t begin, int64_t count, int32_t* out) const {
  if (begin < 0 || count < 0 || begin > tokens_ || count > tokens_ - begin)
    core::fail(ExitCode::kInternal,
               {.path = file_.path(),
                .field = "token range",
                .expected = fmt::format("inside [0, {})", tokens_),
                .found = std::to_string(begin) + " + " + std::to_string(count)});
  check_unchanged();
  const int64_t limit = vocab_size_ > 0 ? vocab_size_ : int64_t{1} << 31;
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t id = token(begin + i);
    largest = std::max(largest, id);
    out[i] = static_cast<int32_t>(id);
  }
  if (largest < limit) return;
  int64_t position = begin;
  while (token(position) < limit) ++position;
  fail_token(position, limit);
}

int64_t Shard::max_token_id() const {
  check_unchanged();
  uint32_t largest = 0;
  for (int64_t i = 0; i < tokens_; ++i) largest = std::max(largest, token(i));
  return largest;
}

void Shard::check_vocab(int64_t vocab_size) const {
  check_unchanged();
  for (int64_t i = 0; i < tokens_; ++i)
    if (token(i) >= vocab_size) fail_token(i, vocab_size);
}

bool Shard::verify_content() const {
  const fs::path path = beside(file_.path(), ".json");
  if (!fs::exists(path)) return false;
  const nlohmann::json record = core::read_json(path);
  const auto hash = record.is_object() ? record.find("xxh3_128") : record.end();
  if (hash == record.end() || !hash->is_string())
    core::fail(
        ExitCode::kBadData,
        {.path = path, .field = "xxh3_128", .expected = "the hash of the .ds", .found = "none"});
  check_unchanged();
  const std::string actual = core::hash_hex(file_.bytes());
  if (*hash != actual)
    core::fail(ExitCode::kBadData, {.path = file_.path(),
                                    .field = "content hash",
                                    .expected = hash->get<std::string>(),
                                    .found = actual,
                                    .hint = "the shard is damaged: tokenize or copy it again"});
  return true;
}

std::string Shard::fingerprint() const {
  constexpr size_t kEdge = size_t{1} << 20;
  const size_t edge = std::min<size_t>(kEdge, bytes());
  const uint64_t head[] = {bytes(), static_cast<uint64_t>(token_size_)};
  check_unchanged();
  core::Hasher hasher;
  hasher.update(head, sizeof head);
  hasher.update(file_.bytes().data(), edge);
  hasher.update(file_.bytes().last(edge).data(), edge);
  return hasher.hex();
}

}  // namespace data
