// Reads the header of a safetensors file event by event, so that a hostile one is refused at its
// first excess and never held in memory twice.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "model/limits.h"
#include "model/safetensors.h"

namespace model {
namespace {

using core::ExitCode;
using core::Fault;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxDimensions = 64;
constexpr size_t kMaxMetadata = 65'536;  // entries
constexpr const char* kMetadataKey = "__metadata__";

// Bits per element of every type of the format; nothing for a name that is none.
std::optional<uint64_t> bits_of(std::string_view dtype) {
  static const std::map<std::string_view, uint64_t> bits = {
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  const auto it = bits.find(dtype);
  return it == bits.end() ? std::nullopt : std::optional(it->second);
}

std::string range(const StoredTensor& t) { return fmt::format("[{}, {})", t.begin, t.end); }

// The grammar of the header as a state: where we are is `depth_` plus the key we are under.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool key(std::string& name) override {
    if (depth_ == 1) {
      begin_entry(name);
    } else if (in_metadata_) {
      metadata_key_ = name;
      const auto [entry, is_new] = header_.metadata.try_emplace(name);
      if (!is_new) fail("metadata key", "every key once", name + " twice");
      if (header_.metadata.size() > kMaxMetadata)
        fail("metadata", fmt::format("at most {} entries", kMaxMetadata), "more");
      metadata_value_ = &entry->second;
    } else {
      field_ = name;
      bool* seen = name == "dtype"          ? &seen_dtype_
                   : name == "shape"        ? &seen_shape_
                   : name == "data_offsets" ? &seen_offsets_
                                            : nullptr;
      if (seen == nullptr) fail("key", "dtype, shape, data_offsets", name);
      if (std::exchange(*seen, true)) fail("key", "every key once", name + " twice");
    }
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ > 1 || in_array_) wrong_value("an object");
    ++depth_;
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1) end_entry();
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_array_ || in_metadata_ || field_ == "dtype") wrong_value("an array");
    in_array_ = true;
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }
  bool number_unsigned(uint64_t value) override {
    if (!in_array_) wrong_value(std::to_string(value));
    if (value > INT64_MAX) wrong_value(std::to_string(value));
    if (field_ == "shape") {
      if (entry_.shape.size() == kMaxDimensions)
        fail("shape", "at most " + std::to_string(kMaxDimensions) + " dimensions", "more");
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else {
      if (offsets_ == 2) fail("data_offsets", "[begin, end]", "more numbers");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    }
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ == 2 && in_metadata_)
      *metadata_value_ = value;
    else if (depth_ == 2 && !in_array_ && field_ == "dtype")
      entry_.dtype = value;
    else
      wrong_value(fmt::format("\"{}\"", value));
    return true;
  }
  bool null() override { wrong_value("null"); }
  bool boolean(bool value) override { wrong_value(value ? "true" : "false"); }
  bool number_integer(int64_t value) override { wrong_value(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { wrong_value(text); }
  bool binary(binary_t&) override { wrong_value("binary"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    core::fail(ExitCode::kBadData,
               {.path = path_,
                .place = "byte " + std::to_string(kLengthBytes + std::max<size_t>(position, 1) - 1),
                .field = "header",
                .expected = "JSON",
                .found = std::string(error.what()).substr(0, 300)});
  }

 private:
  void begin_entry(const std::string& name) {
    if (name.size() > kMaxTensorNameBytes)
      core::fail(ExitCode::kBadData,
                 {.path = path_,
                  .place = name.substr(0, 64) + "...",
                  .field = "tensor name",
                  .expected = "at most " + std::to_string(kMaxTensorNameBytes) + " bytes",
                  .found = std::to_string(name.size())});
    name_ = name;
    entry_ = {};
    offsets_ = 0;
    seen_dtype_ = seen_shape_ = seen_offsets_ = false;
    in_metadata_ = name == kMetadataKey;
    field_.clear();
    if (in_metadata_ ? std::exchange(seen_metadata_, true) : header_.tensors.contains(name))
      fail("header", "every name once", "a duplicate");
    if (!in_metadata_ && header_.tensors.size() == kMaxTensors)
      fail("header", "at most " + std::to_string(kMaxTensors) + " tensors", "more");
  }

  void end_entry() {
    if (std::exchange(in_metadata_, false)) return;
    const char* missing = !seen_dtype_     ? "dtype"
                          : !seen_shape_   ? "shape"
                          : !seen_offsets_ ? "data_offsets"
                                           : nullptr;
    if (missing != nullptr) fail(missing, "a value", "nothing");
    if (offsets_ != 2) fail("data_offsets", "[begin, end]", std::to_string(offsets_) + " numbers");
    header_.tensors.emplace(name_, std::move(entry_));
  }

  [[noreturn]] void wrong_value(const std::string& found) {
    if (depth_ == 0) fail("header", "an object", found);
    if (depth_ == 1) fail(in_metadata_ ? kMetadataKey : "entry", "an object", found);
    if (in_metadata_) fail(metadata_key_, "a string", found);
    if (field_ == "dtype") fail(field_, "a string", found);
    fail(field_, "an array of integers of at most 63 bits, not negative", found);
  }
  [[noreturn]] void fail(const std::string& field, const std::string& expected,
                         const std::string& found) {
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .place = name_,
                                    .field = field,
                                    .expected = expected,
                                    .found = found.substr(0, 200)});
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  int depth_ = 0;
  bool in_array_ = false, in_metadata_ = false, seen_metadata_ = false;
  std::string name_, field_, metadata_key_;
  std::string* metadata_value_ = nullptr;
  StoredTensor entry_;
  bool seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
  int offsets_ = 0;
};

// The JSON text of the header.
std::string_view header_text(const std::string& path, std::span<const std::byte> file) {
  const std::string_view all(reinterpret_cast<const char*>(file.data()), file.size());
  if (all.starts_with("version https://git-lfs"))
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "content",
                                    .expected = "a safetensors file",
                                    .found = "a Git LFS pointer",
                                    .hint = "run git lfs pull"});
  if (file.size() < kLengthBytes)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "size",
                                    .expected = "at least the 8-byte header length",
                                    .found = std::to_string(file.size()) + " bytes"});
  static_assert(std::endian::native == std::endian::little);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  const uint64_t most = std::min(kMaxHeaderBytes, uint64_t{file.size()} - kLengthBytes);
  if (length < 2 || length > most)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = "byte 0",
                                    .field = "header length",
                                    .expected = "2 to " + std::to_string(most) + " (the file has " +
                                                std::to_string(file.size()) + " bytes)",
                                    .found = std::to_string(length),
                                    .hint = "incomplete download, or not a safetensors file"});
  const std::string_view text = all.substr(kLengthBytes, length);
  const auto refuse = [&](size_t offset, const char* expected) {
    core::fail(ExitCode::kBadData,
               {.path = path,
                .place = "byte " + std::to_string(kLengthBytes + offset),
                .field = "header",
                .expected = expected,
                .found = "byte " + std::to_string(static_cast<uint8_t>(text[offset]))});
  };
  if (text[0] != '{') refuse(0, "'{'");
  // The parser takes NUL for the end of its input.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) refuse(nul, "JSON");
  const size_t last = text.find_last_not_of(' ');
  if (text[last] != '}') refuse(last, "'}' and spaces at the end");
  return text;
}

// Requires: the shape has no negative extent.
uint64_t byte_count(const std::string& path, const std::string& name, const StoredTensor& t) {
  const std::optional<uint64_t> bits = bits_of(t.dtype);
  if (!bits)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = name,
                                    .field = "dtype",
                                    .expected = "a safetensors type such as F32, BF16, F16",
                                    .found = fmt::format("\"{:.64}\"", t.dtype)});
  std::optional<uint64_t> total = *bits;
  for (int64_t extent : t.shape)
    if (total) total = core::checked_mul(*total, static_cast<uint64_t>(extent));
  // A zero extent behind an overflow would hide it; nobody means that either.
  if (!total || *total % 8 != 0)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = name,
                                    .field = "shape",
                                    .expected = "a whole number of bytes below 2^61",
                                    .found = to_string(t) + " of " + t.dtype});
  return *total / 8;
}

// Invariant after it: the tensors, sorted, tile the data section exactly.
void check_layout(const std::string& path, const SafetensorsHeader& header, uint64_t data_bytes) {
  using Entry = std::pair<const std::string, StoredTensor>;
  std::vector<const Entry*> order;
  for (const Entry& entry : header.tensors) order.push_back(&entry);
  std::ranges::sort(order, [](const Entry* a, const Entry* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t position = 0;
  std::string previous = "the header";
  for (const Entry* entry : order) {
    const std::string& name = entry->first;
    const StoredTensor& t = entry->second;
    const auto refuse = [&](const std::string& expected, const std::string& found) {
      core::fail(ExitCode::kBadData, {.path = path,
                                      .place = name,
                                      .field = "data_offsets",
                                      .expected = expected,
                                      .found = found});
    };
    if (t.end < t.begin) refuse("begin <= end", range(t));
    if (t.begin != position)
      refuse("begin " + std::to_string(position) + ", the end of " + previous,
             range(t) + (t.begin < position ? ", an overlap" : ", a hole"));
    const uint64_t bytes = byte_count(path, name, t);
    if (bytes != t.end - t.begin)
      refuse(std::to_string(bytes) + " bytes for " + t.dtype + " " + to_string(t),
             std::to_string(t.end - t.begin) + " bytes " + range(t));
    position = t.end;
    previous = name + " " + range(t);
  }
  if (position != data_bytes)
    core::fail(
        ExitCode::kBadData,
        {.path = path,
         .place = "byte " + std::to_string(header.data_offset + std::min(position, data_bytes)),
         .field = "data section",
         .expected = std::to_string(position) + " bytes, the end of " + previous,
         .found = std::to_string(data_bytes),
         .hint = position > data_bytes ? "incomplete download?"
                                       : "something was appended to the file"});
}

}  // namespace

std::string to_string(const StoredTensor& tensor) {
  std::string text;
  for (int64_t extent : tensor.shape)
    text.append(text.empty() ? "[" : ", ").append(std::to_string(extent));
  return text.append(text.empty() ? "[]" : "]");
}

SafetensorsHeader parse_safetensors_header(const std::string& path,
                                           std::span<const std::byte> file) {
  const std::string_view text = header_text(path, file);
  SafetensorsHeader header;
  header.data_offset = kLengthBytes + text.size();
  HeaderReader reader(path, header);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  check_layout(path, header, file.size() - header.data_offset);
  return header;
}

}  // namespace model
