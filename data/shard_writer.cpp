#include "data/shard_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "data/shard.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

static_assert(std::endian::native == std::endian::little, "ids are written as they lie");

constexpr size_t kFlushBytes = size_t{1} << 20;

fs::path shard_path(const fs::path& prefix) {
  fs::path path = prefix;
  if (path.extension() != ".ds") path += ".ds";
  if (path.filename() == ".ds")
    core::fail(ExitCode::kUsage, {.path = prefix,
                                  .field = "output prefix",
                                  .expected = "a file name without its ending",
                                  .found = "a folder"});
  if (path.has_parent_path()) core::create_directories(path.parent_path());
  return path;
}

int checked_token_size(const ShardOrigin& origin) {
  if (origin.vocab_size < 1 || origin.vocab_size > INT32_MAX)
    core::fail(ExitCode::kBadConfig, {.field = "vocabulary size",
                                      .expected = "in [1, 2^31)",
                                      .found = std::to_string(origin.vocab_size)});
  if (origin.eos_id && *origin.eos_id >= origin.vocab_size)
    core::fail(ExitCode::kBadConfig,
               {.field = "eos id",
                .expected = fmt::format("less than the vocabulary size {}", origin.vocab_size),
                .found = std::to_string(*origin.eos_id)});
  return token_size_of_vocab(origin.vocab_size);
}

// Three significant digits and an SI prefix, as datatrove writes it: 1234567 -> "1.23 MT".
std::string format_token_count(int64_t tokens) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  const int digits = static_cast<int>(std::to_string(tokens).size()) - 1;
  double value = static_cast<double>(tokens);
  for (int i = 0; i < digits / 3; ++i) value /= 1000;
  return fmt::format("{:.{}f} {}T", value, 2 - digits % 3, kPrefixes[digits / 3]);
}

void put_bytes(std::vector<char>& buffer, const void* data, size_t size) {
  const auto* p = static_cast<const char*>(data);
  buffer.insert(buffer.end(), p, p + size);
}

}  // namespace

ShardWriter::ShardWriter(const fs::path& prefix, ShardOrigin origin)
    : path_(shard_path(prefix)),
      origin_(std::move(origin)),
      token_size_(checked_token_size(origin_)),
      data_(path_),
      index_(path_.string() + ".index") {}

void ShardWriter::put(uint32_t id) {
  if (id >= origin_.vocab_size)
    core::fail(ExitCode::kBadData,
               {.path = path_,
                .place = fmt::format("document {}", documents_),
                .field = "token id",
                .expected = fmt::format("less than the vocabulary size {}", origin_.vocab_size),
                .found = std::to_string(id),
                .hint = "the tokenizer does not fit the model"});
  put_bytes(buffer_, &id, static_cast<size_t>(token_size_));
  ++tokens_;
}

void ShardWriter::append(std::span<const uint32_t> ids) {
  for (const uint32_t id : ids) {
    put(id);
    if (buffer_.size() >= kFlushBytes) flush();
  }
  if (origin_.eos_id) put(*origin_.eos_id);
  ++documents_;
  const auto end = static_cast<uint64_t>(tokens_);
  put_bytes(index_buffer_, &end, sizeof end);
  if (index_buffer_.size() >= kFlushBytes) flush();
}

void ShardWriter::flush() {
  data_.write(buffer_.data(), buffer_.size());
  hasher_.update(buffer_.data(), buffer_.size());
  buffer_.clear();
  index_.write(index_buffer_.data(), index_buffer_.size());
  index_buffer_.clear();
}

std::string ShardWriter::metadata() const {
  std::string name = origin_.tokenizer_name.empty() ? "Unknown Tokenizer" : origin_.tokenizer_name;
  std::replace(name.begin(), name.end(), '\n', ' ');
  return fmt::format("{}|{}\n{}\n{}", name, token_size_, tokens_, format_token_count(tokens_));
}

std::string ShardWriter::provenance() const {
  nlohmann::ordered_json record;
  record["format"] = "nanoset";
  record["tokenizer_name"] = origin_.tokenizer_name;
  record["tokenizer_hash"] = origin_.tokenizer_hash;
  record["vocab_size"] = origin_.vocab_size;
  record["token_size"] = token_size_;
  record["eos"] = origin_.eos_id ? "append" : "none";
  record["eos_id"] = nullptr;
  if (origin_.eos_id) record["eos_id"] = *origin_.eos_id;
  record["key"] = origin_.key;
  record["inputs"] = origin_.inputs;
  record["documents"] = documents_;
  record["tokens"] = tokens_;
  record["xxh3_128"] = hasher_.hex();
  return record.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void ShardWriter::finish() {
  flush();
  if (tokens_ == 0)
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .field = "tokens",
                                    .expected = "at least one",
                                    .found = "none in all of the input",
                                    .hint = "check the input files and their text key"});
  // Whoever sees a new .ds sees its companions: it appears last.
  index_.commit();
  core::write_file_atomically(path_.string() + ".metadata", metadata());
  core::write_file_atomically(path_.string() + ".json", provenance());
  data_.commit();
}

}  // namespace data
