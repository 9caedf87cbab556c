#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "model/half.h"

namespace model {
namespace {

using core::ExitCode;

constexpr int64_t kChunk = 1 << 16;  // elements converted at a time

ag::Shape shape_of(const std::vector<int64_t>& e) {
  switch (e.size()) {
    case 0:
      return {};
    case 1:
      return {e[0]};
    case 2:
      return {e[0], e[1]};
    case 3:
      return {e[0], e[1], e[2]};
    default:
      return {e[0], e[1], e[2], e[3]};
  }
}

// A tensor of To whose elements are convert(stored element of type From, its index).
template <class From, class To, class Convert>
ag::Tensor convert(const ag::Shape& shape, std::span<const std::byte> bytes,
                   const Convert& convert_one) {
  ag::Tensor tensor = ag::Tensor::empty(shape, ag::dtype_of<To>());
  std::vector<To> chunk;
  for (int64_t start = 0; start < shape.numel(); start += kChunk) {
    const int64_t count = std::min(kChunk, shape.numel() - start);
    chunk.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      From stored;
      std::memcpy(&stored, bytes.data() + (start + i) * sizeof(From), sizeof(From));
      chunk[static_cast<size_t>(i)] = convert_one(stored, start + i);
    }
    tensor.slice(start, {count}).copy_from(chunk.data());
  }
  return tensor;
}

ag::Tensor copy(const ag::Shape& shape, ag::DType dtype, std::span<const std::byte> bytes) {
  ag::Tensor tensor = ag::Tensor::empty(shape, dtype);
  tensor.copy_from(bytes.data());
  return tensor;
}

std::string_view stored_name(ag::DType dtype) {
  switch (dtype) {
    case ag::DType::f32:
      return "F32";
    case ag::DType::bf16:
      return "BF16";
    case ag::DType::f64:
      return "F64";
    case ag::DType::i32:
      return "I32";
  }
  return "?";
}

// The reference sorts by its own order of types, larger ones first.
int rank_of(ag::DType dtype) {
  switch (dtype) {
    case ag::DType::f64:
      return 0;
    case ag::DType::f32:
      return 1;
    case ag::DType::i32:
      return 2;
    case ag::DType::bf16:
      return 3;
  }
  return 4;
}

using Entry = std::pair<const std::string, ag::Tensor>;

std::string header_json(const std::vector<const Entry*>& order,
                        const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) json += quoted(key) + ":" + quoted(value) + ",";
    json.back() = '}';
    json += ",";
  }
  uint64_t position = 0;
  for (const Entry* entry : order) {
    const auto& [name, tensor] = *entry;
    const uint64_t end = position + static_cast<uint64_t>(tensor.bytes());
    json += quoted(name) + ":{\"dtype\":\"" + std::string(stored_name(tensor.dtype()));
    json += "\",\"shape\":[";
    for (int i = 0; i < tensor.shape().rank(); ++i) json += std::to_string(tensor.shape()[i]) + ",";
    if (json.back() == ',') json.pop_back();
    json += "],\"data_offsets\":[" + std::to_string(position) + "," + std::to_string(end) + "]},";
    position = end;
  }
  if (json.back() == ',') json.pop_back();
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  return json;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), header_(parse_safetensors_header(path.string(), file_.bytes())) {}

const StoredTensor& SafetensorsHeader::at(const std::string& path, const std::string& name) const {
  const auto it = tensors.find(name);
  if (it == tensors.end())
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = name,
                                    .field = "tensor",
                                    .expected = "in the file",
                                    .found = "nothing"});
  return it->second;
}

const StoredTensor& SafetensorsFile::at(const std::string& name) const {
  return header_.at(path().string(), name);
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  return header_.bytes_of(at(name), file_.bytes());
}

ag::Tensor SafetensorsFile::load(const std::string& name) const {
  ag::Tensor tensor = load_tensor(path().string(), name, at(name), bytes(name));
  release(name);
  return tensor;
}

ag::Tensor load_tensor(const std::string& path, const std::string& name, const StoredTensor& t,
                       std::span<const std::byte> stored) {
  const auto refuse = [&](const char* field, const std::string& expected,
                          const std::string& found) {
    core::fail(ExitCode::kBadData,
               {.path = path, .place = name, .field = field, .expected = expected, .found = found});
  };
  if (t.shape.size() > ag::Shape::kMaxRank) refuse("shape", "at most 4 dimensions", to_string(t));
  const ag::Shape shape = shape_of(t.shape);
  if (t.dtype == "F32") return copy(shape, ag::DType::f32, stored);
  if (t.dtype == "BF16") return copy(shape, ag::DType::bf16, stored);
  if (t.dtype == "F64") return copy(shape, ag::DType::f64, stored);
  if (t.dtype == "I32") return copy(shape, ag::DType::i32, stored);
  if (t.dtype == "F16")
    return convert<uint16_t, float>(shape, stored,
                                    [](uint16_t half, int64_t) { return widen_half(half); });
  if (t.dtype != "I64") refuse("dtype", "F32, BF16, F16, F64, I32 or I64", t.dtype);
  return convert<int64_t, int32_t>(shape, stored, [&](int64_t value, int64_t index) {
    if (value < INT32_MIN || value > INT32_MAX)
      refuse("value", "a 32-bit integer",
             std::to_string(value) + " at element " + std::to_string(index));
    return static_cast<int32_t>(value);
  });
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, ag::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  CHECK_ARGUMENT("write_safetensors", !tensors.contains("__metadata__"), "names of tensors",
                 "__metadata__");
  std::vector<const Entry*> order;
  for (const Entry& entry : tensors) order.push_back(&entry);
  std::ranges::stable_sort(order, {}, [](const Entry* e) { return rank_of(e->second.dtype()); });
  const std::string header = header_json(order, metadata);
  const uint64_t length = header.size();
  core::AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(header);
  std::vector<std::byte> host;
  for (const Entry* entry : order) {
    host.resize(static_cast<size_t>(entry->second.bytes()));
    entry->second.copy_to(host.data());
    file.write(host.data(), host.size());
  }
  file.commit();
}

}  // namespace model
