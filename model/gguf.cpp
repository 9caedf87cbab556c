#include "model/gguf.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "model/gguf_reader.h"

namespace model {
namespace {

constexpr uint64_t kMaxGgufRecords = 65536;  // tensors, entries
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxGgufNameBytes = 63;
constexpr uint64_t kSmallestEntry = 8 + 1 + 4 + 1;           // key, type, value
constexpr uint64_t kSmallestTensor = 8 + 1 + 4 + 8 + 4 + 8;  // name, extents, type, offset
constexpr uint32_t kMaxGgufDimensions = 4;
constexpr uint64_t kMaxGgufExtent = uint64_t{1} << 40;
constexpr uint64_t kDefaultAlignment = 32, kMinAlignment = 8, kMaxAlignment = 4096;
constexpr const char* kAlignmentKey = "general.alignment";

class Parser {
 public:
  Parser(const std::string& path, std::span<const std::byte> file) : in_(path, file) {}

  GgufHeader parse() {
    read_version();
    const uint64_t tensors = read_count("number of tensors", kSmallestTensor);
    const uint64_t entries = read_count("number of entries", kSmallestEntry);
    std::map<std::string, GgufValue> values;
    for (uint64_t i = 0; i < entries; ++i) read_entry(values, i);
    read_alignment(values);
    header_.metadata = GgufMetadata(in_.path(), std::move(values));
    for (uint64_t i = 0; i < tensors; ++i) read_tensor(i);
    place_tensors();
    return std::move(header_);
  }

 private:
  void read_version() {
    const std::string_view magic = in_.bytes(4, "magic");
    if (magic != "GGUF")
      in_.fail(0, "magic", "\"GGUF\"", in_.quoted(magic), "this is no GGUF file");
    const size_t at = in_.position();
    header_.version = in_.number<uint32_t>("version");
    if (header_.version == 2 || header_.version == 3) return;
    const uint32_t swapped = __builtin_bswap32(header_.version);
    in_.fail(at, "version", "2 or 3", std::to_string(header_.version),
             swapped == 2 || swapped == 3 ? "big-endian files are not read" : "");
  }

  uint64_t read_count(const char* what, uint64_t smallest) {
    const size_t at = in_.position();
    const uint64_t count = in_.number<uint64_t>(what);
    const uint64_t most = std::min<uint64_t>(kMaxGgufRecords, in_.remaining() / smallest);
    if (count > most)
      in_.fail(at, what, fmt::format("at most {}", most), std::to_string(count),
               most < kMaxGgufRecords ? "no more fit into the rest of the file" : "");
    return count;
  }

  void read_entry(std::map<std::string, GgufValue>& values, uint64_t index) {
    const size_t at = in_.position();
    const std::string_view key = in_.string("key", kMaxKeyBytes);
    for (const char c : key)
      if (c <= ' ' || c > '~')
        in_.fail(at, fmt::format("key {}", index), "printable ASCII", in_.quoted(key));
    if (key.empty()) in_.fail(at, fmt::format("key {}", index), "a name", "an empty one");
    in_.set_place(std::string(key));
    const GgufValue value = in_.value();
    in_.set_place("");
    if (!values.emplace(key, value).second)
      in_.fail(at, fmt::format("key {}", index), "every key once", std::string(key) + " twice");
  }

  void read_alignment(const std::map<std::string, GgufValue>& values) {
    header_.alignment = kDefaultAlignment;
    const auto entry = values.find(kAlignmentKey);
    if (entry == values.end()) return;
    const GgufValue& value = entry->second;
    if (value.type != GgufType::u32 || value.count)
      in_.fail_at(kAlignmentKey, "type", "UINT32", describe(value));
    uint32_t alignment = 0;
    std::memcpy(&alignment, value.bytes.data(), sizeof alignment);
    if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment)
      in_.fail_at(kAlignmentKey, "value",
                  fmt::format("a power of two from {} to {}", kMinAlignment, kMaxAlignment),
                  std::to_string(alignment));
    header_.alignment = alignment;
  }

  void read_tensor(uint64_t index) {
    const size_t at = in_.position();
    const std::string name(in_.string("tensor name", kMaxGgufNameBytes));
    for (const char c : name)
      if (c <= ' ' || c > '~')
        in_.fail(at, fmt::format("name of tensor {}", index), "printable ASCII", in_.quoted(name));
    if (name.empty()) in_.fail(at, fmt::format("name of tensor {}", index), "a name", "none");
    in_.set_place(name);
    GgufTensor tensor;
    const auto dimensions = in_.number<uint32_t>("number of dimensions");
    if (dimensions < 1 || dimensions > kMaxGgufDimensions)
      in_.fail_at(name, "number of dimensions", fmt::format("1 to {}", kMaxGgufDimensions),
                  std::to_string(dimensions));
    for (uint32_t i = 0; i < dimensions; ++i) {
      const auto extent = in_.number<uint64_t>("shape");
      if (extent < 1 || extent > kMaxGgufExtent)
        in_.fail_at(name, "shape", fmt::format("extents from 1 to {}", kMaxGgufExtent),
                    std::to_string(extent));
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));
    }
    const auto type = in_.number<uint32_t>("type");
    tensor.block = find_gguf_block(type);
    if (tensor.block == nullptr)
      in_.fail_at(name, "type", gguf_block_names(), gguf_type_name(type),
                  "take a file of one of these types");
    place_.push_back({name, in_.number<uint64_t>("offset"), size_of(name, tensor)});
    in_.set_place("");
    if (!header_.tensors.emplace(name, std::move(tensor)).second)
      in_.fail(at, fmt::format("name of tensor {}", index), "every name once", name + " twice");
  }

  uint64_t size_of(const std::string& name, const GgufTensor& tensor) {
    const GgufBlock& block = *tensor.block;
    const auto row = static_cast<uint64_t>(tensor.shape.back());
    if (row % block.elements != 0)
      in_.fail_at(name, "shape",
                  fmt::format("rows of whole {} blocks of {}", block.name, block.elements),
                  to_string(tensor));
    std::optional<uint64_t> bytes = core::checked_mul(row / block.elements, block.bytes);
    for (size_t i = 0; i + 1 < tensor.shape.size() && bytes; ++i)
      bytes = core::checked_mul(*bytes, static_cast<uint64_t>(tensor.shape[i]));
    if (!bytes) in_.fail_at(name, "shape", "a size below 2^64 bytes", to_string(tensor));
    return *bytes;
  }

  uint64_t padded(const std::string& name, uint64_t bytes) {
    const auto more = core::checked_add(bytes, header_.alignment - 1);
    if (!more) in_.fail_at(name, "size", "below 2^64 bytes", std::to_string(bytes));
    return *more / header_.alignment * header_.alignment;
  }

  // Invariant of what is accepted: the tensors lie one behind the other, and end with the file.
  void place_tensors() {
    header_.data_offset = padded("header", in_.position());
    const uint64_t size = in_.size();
    if (header_.data_offset > size) {
      if (!place_.empty())
        in_.fail(in_.position(), "data", fmt::format("from byte {}", header_.data_offset),
                 fmt::format("{} bytes", size), "incomplete download?");
      header_.data_offset = size;  // no tensors, no padding
    }
    const uint64_t available = size - header_.data_offset;
    uint64_t position = 0, end = 0;
    for (const Place& place : place_) {
      if (place.offset != position)
        in_.fail_at(place.name, "offset", std::to_string(position), std::to_string(place.offset),
                    "tensors follow each other, aligned, in the order of the table");
      const auto stop = core::checked_add(position, place.bytes);
      if (!stop || *stop > available)
        in_.fail_at(place.name, "data", fmt::format("{} bytes from {}", place.bytes, position),
                    fmt::format("{} in the file", available - position), "incomplete download?");
      header_.tensors.at(place.name).bytes =
          in_.file().subspan(header_.data_offset + position, place.bytes);
      end = *stop;
      position = padded(place.name, end);
      // Only the last one may lack its padding.
      if (position > available && &place != &place_.back())
        in_.fail_at(place.name, "padding", fmt::format("to byte {} of the data", position),
                    std::to_string(available), "incomplete download?");
    }
    if (available > position)
      in_.fail(header_.data_offset + position, "data", "the end of the file",
               fmt::format("{} more bytes", available - position), "something was appended");
  }

  struct Place {
    std::string name;
    uint64_t offset, bytes;
  };

  GgufReader in_;
  GgufHeader header_;
  std::vector<Place> place_;  // in the order of the table
};

}  // namespace

uint64_t GgufTensor::elements() const {
  uint64_t elements = 1;
  for (const int64_t extent : shape) elements *= static_cast<uint64_t>(extent);
  return elements;
}

std::string to_string(const GgufTensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.shape, ", "));
}

GgufHeader parse_gguf(const std::string& path, std::span<const std::byte> file) {
  return Parser(path, file).parse();
}

}  // namespace model
