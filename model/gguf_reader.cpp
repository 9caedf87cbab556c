#include "model/gguf_reader.h"

#include <fmt/format.h>

#include "core/checked.h"
#include "core/error.h"

namespace model {
namespace {

// Bytes of one element; 0 for strings and arrays.
uint64_t width_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

}  // namespace

std::string to_string(GgufType type) {
  constexpr const char* kNames[] = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                    "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                    "UINT64", "INT64",   "FLOAT64"};
  return kNames[static_cast<uint32_t>(type)];
}

std::string describe(const GgufValue& value) {
  return (value.count ? "an array of " : "") + to_string(value.type);
}

std::string_view GgufReader::bytes(uint64_t count, const char* what) {
  if (count > remaining())
    fail(position_, what, fmt::format("{} bytes", count), fmt::format("{}", remaining()),
         "the file ends too early: incomplete download?");
  const std::string_view text(reinterpret_cast<const char*>(file_.data()) + position_,
                              static_cast<size_t>(count));
  position_ += static_cast<size_t>(count);
  return text;
}

std::string_view GgufReader::string(const char* what, uint64_t most) {
  const size_t at = position_;
  const auto length = number<uint64_t>(what);
  if (length > most)
    fail(at, fmt::format("length of the {}", what), fmt::format("at most {} bytes", most),
         std::to_string(length));
  return bytes(length, what);
}

GgufType GgufReader::type() {
  const size_t at = position_;
  const auto type = number<uint32_t>("type");
  if (type > static_cast<uint32_t>(GgufType::f64))
    fail(at, "type", "0 to 12", std::to_string(type));
  return static_cast<GgufType>(type);
}

void GgufReader::skip(GgufType type, uint64_t count) {
  const uint64_t width = width_of(type);
  if (width > 0) {
    const auto size = core::checked_mul(count, width);
    if (!size)
      fail(position_, "array", "a size below 2^64 bytes", std::to_string(count) + " elements");
    bytes(*size, "value");
    return;
  }
  constexpr uint64_t kLength = sizeof(uint64_t);
  if (count > remaining() / kLength)
    fail(position_, "array", fmt::format("at most {} strings", remaining() / kLength),
         std::to_string(count), "no more fit into the rest of the file");
  for (uint64_t i = 0; i < count; ++i) string("string", remaining());
}

GgufValue GgufReader::value() {
  GgufValue value;
  value.type = type();
  if (value.type == GgufType::array) {
    value.type = type();
    if (value.type == GgufType::array)
      fail(position_, "array", "elements that are no arrays", "an array of arrays");
    value.count = number<uint64_t>("array");
  }
  const size_t begin = position_;
  skip(value.type, value.count.value_or(1));
  value.bytes = file_.subspan(begin, position_ - begin);
  return value;
}

void GgufReader::fail(size_t byte, const std::string& field, const std::string& expected,
                      const std::string& found, const std::string& hint) const {
  fail_at(place_.empty() ? fmt::format("byte {}", byte) : place_, field, expected, found, hint);
}

void GgufReader::fail_at(const std::string& place, const std::string& field,
                         const std::string& expected, const std::string& found,
                         const std::string& hint) const {
  core::fail(core::ExitCode::kBadData, {.path = path_,
                                        .place = place,
                                        .field = field,
                                        .expected = expected,
                                        .found = found,
                                        .hint = hint});
}

std::string GgufReader::quoted(std::string_view text) {
  constexpr size_t kShown = 64;
  return fmt::format("\"{}\"{}", text.substr(0, kShown), text.size() > kShown ? "..." : "");
}

}  // namespace model
