#include "data/shard_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace data {
namespace {

using core::ExitCode;

static_assert(std::endian::native == std::endian::little, "token ids are copied as they lie");

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

}  // namespace

ShardMetadata parse_shard_metadata(const std::string& path, const std::string& content) {
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
  return {static_cast<int>(*size), *count};
}

void check_document_index(const std::string& path, std::span<const std::byte> index,
                          int64_t tokens) {
  const size_t size = index.size();
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
    std::memcpy(&end, index.data() + offset, sizeof end);
    if (end < previous)
      refuse("byte " + std::to_string(offset), "an end >= " + std::to_string(previous),
             std::to_string(end));
    previous = end;
  }
  if (previous != static_cast<uint64_t>(tokens))
    refuse("byte " + std::to_string(size - sizeof(uint64_t)),
           fmt::format("the last end to be {} (tokens in the .ds)", tokens),
           std::to_string(previous));
}

std::string parse_recorded_hash(const std::string& path, const std::string& text) {
  const nlohmann::json record = core::parse_json(path, text);
  const auto hash = record.is_object() ? record.find("xxh3_128") : record.end();
  if (hash == record.end() || !hash->is_string())
    core::fail(
        ExitCode::kBadData,
        {.path = path, .field = "xxh3_128", .expected = "the hash of the .ds", .found = "none"});
  return hash->get<std::string>();
}

TokenBytes::TokenBytes(std::string path, std::span<const std::byte> bytes, int token_size)
    : path_(std::move(path)), bytes_(bytes), token_size_(token_size) {
  if (bytes.empty())
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .field = "size",
                                    .expected = "tokens",
                                    .found = "an empty shard",
                                    .hint = "tokenize again and check the input and its text key"});
  const auto width = static_cast<size_t>(token_size);
  if (bytes.size() % width != 0)
    core::fail(ExitCode::kBadData,
               {.path = path_,
                .field = "size",
                .expected = "a multiple of the token size " + std::to_string(width),
                .found = std::to_string(bytes.size()) + " bytes",
                .hint = "the file is truncated or is no .ds shard"});
  size_ = static_cast<int64_t>(bytes.size() / width);
}

uint32_t TokenBytes::operator[](int64_t position) const {
  const std::byte* p = bytes_.data() + position * token_size_;
  uint32_t id = 0;  // little-endian: the low bytes of `id` are the bytes of the file
  std::memcpy(&id, p, token_size_ == 2 ? 2 : 4);
  return id;
}

void TokenBytes::refuse(int64_t position, int64_t vocab_size) const {
  core::fail(ExitCode::kBadData,
             {.path = path_,
              .place = "token " + std::to_string(position),
              .field = "token id",
              .expected = "less than the vocabulary size " + std::to_string(vocab_size),
              .found = std::to_string((*this)[position]),
              .hint = "the shard was written with another tokenizer: tokenize again"});
}

void TokenBytes::copy(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const {
  if (begin < 0 || count < 0 || begin > size_ || count > size_ - begin)
    core::fail(ExitCode::kInternal,
               {.path = path_,
                .field = "token range",
                .expected = fmt::format("inside [0, {})", size_),
                .found = std::to_string(begin) + " + " + std::to_string(count)});
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t id = (*this)[begin + i];
    largest = std::max(largest, id);
    out[i] = static_cast<int32_t>(id);
  }
  if (largest < vocab_size) return;
  int64_t position = begin;
  while ((*this)[position] < vocab_size) ++position;
  refuse(position, vocab_size);
}

int64_t TokenBytes::max_id() const {
  uint32_t largest = 0;
  for (int64_t i = 0; i < size_; ++i) largest = std::max(largest, (*this)[i]);
  return largest;
}

void TokenBytes::check_vocab(int64_t vocab_size) const {
  for (int64_t i = 0; i < size_; ++i)
    if ((*this)[i] >= vocab_size) refuse(i, vocab_size);
}

}  // namespace data
