// GGUF, versions 2 and 3, little-endian (a string is a u64 length and its bytes):
//   "GGUF", u32 version, u64 number of tensors, u64 number of entries,
//   entries: string key, u32 type, value; an array is u32 type of elements, u64 count, elements,
//   tensors: string name, u32 dimensions, u64 extents (contiguous one first), u32 type, u64 offset,
//   then, each padded to `general.alignment` (32): the header, and the tensors in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "model/gguf_blocks.h"

namespace model {

enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

// "INT32"
std::string to_string(GgufType type);

// A value where it lies in the file.
struct GgufValue {
  GgufType type = GgufType::u8;   // of an array: that of its elements
  std::optional<uint64_t> count;  // of an array
  std::span<const std::byte> bytes;
};

struct GgufTensor {
  const GgufBlock* block = nullptr;
  std::vector<int64_t> shape;  // as elsewhere in this program: the contiguous extent last
  std::span<const std::byte> bytes;

  uint64_t elements() const;
};

// "[97, 48]"
std::string to_string(const GgufTensor& tensor);

// Typed access to the entries; errors name file, key, expected and found. Absent keys give nothing.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  // Keeps spans of the file.
  GgufMetadata(std::string path, std::map<std::string, GgufValue> values)
      : path_(std::move(path)), values_(std::move(values)) {}

  bool contains(const std::string& key) const { return values_.contains(key); }
  // Of any integer type.
  std::optional<int64_t> integer(const std::string& key, int64_t least, int64_t most) const;
  // FLOAT32 or FLOAT64; the former as the shortest decimal that means it, 1e-05 rather than
  // 9.999999747378752e-06. Finite.
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  // UTF-8 without NUL.
  std::optional<std::string> string(const std::string& key) const;
  // Arrays; `most` elements at most. A scalar is no array.
  std::optional<std::vector<std::string>> strings(const std::string& key, uint64_t most) const;
  std::optional<std::vector<int64_t>> integers(const std::string& key, uint64_t most) const;

  const std::map<std::string, GgufValue>& values() const { return values_; }
  const std::string& path() const { return path_; }
  [[noreturn]] void fail(const std::string& key, const std::string& expected,
                         const std::string& found, const std::string& hint = "") const;

 private:
  const GgufValue* find(const std::string& key) const;
  const GgufValue* find_array(const std::string& key, uint64_t most) const;

  std::string path_;
  std::map<std::string, GgufValue> values_;
};

struct GgufHeader {
  uint32_t version = 0;
  uint64_t alignment = 0, data_offset = 0;
  GgufMetadata metadata;
  std::map<std::string, GgufTensor> tensors;
};

// Throws kBadData naming `path`, byte, key or tensor, expected and found. What it returns points
// into `file`. Limits: 65,536 tensors and entries, keys of 65,535 bytes, names of 63; a tensor of a
// type that is not read is refused by name.
GgufHeader parse_gguf(const std::string& path, std::span<const std::byte> file);

}  // namespace model
