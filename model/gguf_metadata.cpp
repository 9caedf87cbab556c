#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "model/gguf.h"
#include "model/gguf_reader.h"

namespace model {
namespace {

// An integer element, if the type is one and the value fits.
std::optional<int64_t> integer_at(const std::byte* from, GgufType type) {
  switch (type) {
    case GgufType::u8:
      return read_number<uint8_t>(from);
    case GgufType::i8:
      return read_number<int8_t>(from);
    case GgufType::u16:
      return read_number<uint16_t>(from);
    case GgufType::i16:
      return read_number<int16_t>(from);
    case GgufType::u32:
      return read_number<uint32_t>(from);
    case GgufType::i32:
      return read_number<int32_t>(from);
    case GgufType::i64:
      return read_number<int64_t>(from);
    case GgufType::u64: {
      const auto value = read_number<uint64_t>(from);
      return value > INT64_MAX ? std::nullopt : std::optional(static_cast<int64_t>(value));
    }
    default:
      return std::nullopt;
  }
}

bool is_integer(GgufType type) {
  return type <= GgufType::i32 || type == GgufType::u64 || type == GgufType::i64;
}

bool is_text(std::string_view text) {
  return text.find('\0') == std::string_view::npos &&
         core::find_invalid_utf8(text) == std::string_view::npos;
}

}  // namespace

void GgufMetadata::fail(const std::string& key, const std::string& expected,
                        const std::string& found, const std::string& hint) const {
  core::fail(core::ExitCode::kBadData,
             {.path = path_, .field = key, .expected = expected, .found = found, .hint = hint});
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto entry = values_.find(key);
  return entry == values_.end() ? nullptr : &entry->second;
}

const GgufValue* GgufMetadata::find_array(const std::string& key, uint64_t most) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (!value->count) fail(key, "an array", describe(*value));
  if (*value->count > most)
    fail(key, fmt::format("at most {} elements", most), std::to_string(*value->count));
  return value;
}

std::optional<int64_t> GgufMetadata::integer(const std::string& key, int64_t least,
                                             int64_t most) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::string expected = fmt::format("an integer from {} to {}", least, most);
  if (value->count || !is_integer(value->type)) fail(key, expected, describe(*value));
  const auto number = integer_at(value->bytes.data(), value->type);
  if (!number || *number < least || *number > most)
    fail(key, expected, number ? std::to_string(*number) : "more than 2^63");
  return number;
}

std::optional<double> GgufMetadata::number(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->count || (value->type != GgufType::f32 && value->type != GgufType::f64))
    fail(key, "FLOAT32 or FLOAT64", describe(*value));
  const bool single = value->type == GgufType::f32;
  const double number = single
                            ? std::stod(fmt::format("{}", read_number<float>(value->bytes.data())))
                            : read_number<double>(value->bytes.data());
  if (!std::isfinite(number)) fail(key, "a finite number", fmt::format("{}", number));
  return number;
}

std::optional<bool> GgufMetadata::boolean(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->count || value->type != GgufType::boolean) fail(key, "BOOL", describe(*value));
  const auto byte = std::to_integer<unsigned>(value->bytes[0]);
  if (byte > 1) fail(key, "0 or 1", std::to_string(byte));
  return byte == 1;
}

std::optional<std::string> GgufMetadata::string(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->count || value->type != GgufType::string) fail(key, "STRING", describe(*value));
  GgufReader in(path_, value->bytes);
  std::string text(in.string("string", value->bytes.size()));
  if (!is_text(text)) fail(key, "UTF-8 without NUL", GgufReader::quoted(text));
  return text;
}

std::optional<std::vector<std::string>> GgufMetadata::strings(const std::string& key,
                                                              uint64_t most) const {
  const GgufValue* value = find_array(key, most);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::string) fail(key, "an array of STRING", describe(*value));
  std::vector<std::string> list;
  list.reserve(*value->count);
  GgufReader in(path_, value->bytes);
  for (uint64_t i = 0; i < *value->count; ++i) {
    list.emplace_back(in.string("string", value->bytes.size()));
    if (!is_text(list.back()))
      fail(fmt::format("{}[{}]", key, i), "UTF-8 without NUL", GgufReader::quoted(list.back()));
  }
  return list;
}

std::optional<std::vector<int64_t>> GgufMetadata::integers(const std::string& key,
                                                           uint64_t most) const {
  const GgufValue* value = find_array(key, most);
  if (value == nullptr) return std::nullopt;
  if (!is_integer(value->type)) fail(key, "an array of integers", describe(*value));
  const uint64_t width = *value->count == 0 ? 0 : value->bytes.size() / *value->count;
  std::vector<int64_t> list;
  list.reserve(*value->count);
  for (uint64_t i = 0; i < *value->count; ++i) {
    const auto number = integer_at(value->bytes.data() + i * width, value->type);
    if (!number) fail(fmt::format("{}[{}]", key, i), "below 2^63", "more");
    list.push_back(*number);
  }
  return list;
}

}  // namespace model
