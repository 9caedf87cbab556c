#include "model/torch_tensor.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "core/checked.h"
#include "core/error.h"
#include "core/file.h"
#include "model/stored_zip.h"
#include "model/torch_pickle.h"

namespace model {
namespace {

constexpr uint64_t kMaxElements = uint64_t{1} << 26;
constexpr size_t kMaxRank = 8;

[[noreturn]] void refuse(const std::string& path, const std::string& place,
                         const std::string& expected, const std::string& found) {
  core::fail(
      core::ExitCode::kBadData,
      {.path = path, .place = place, .field = "tensor file", .expected = expected, .found = found});
}

template <class T>
double element(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}

double bfloat16_element(const char* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return static_cast<double>(std::bit_cast<float>(uint32_t{bits} << 16));
}

struct Storage {
  std::string_view name;
  size_t width;
  double (*read)(const char*);
};
constexpr std::array kStorages = {
    Storage{"FloatStorage", 4, element<float>},      Storage{"DoubleStorage", 8, element<double>},
    Storage{"BFloat16Storage", 2, bfloat16_element}, Storage{"LongStorage", 8, element<int64_t>},
    Storage{"IntStorage", 4, element<int32_t>},      Storage{"ByteStorage", 1, element<uint8_t>},
    Storage{"BoolStorage", 1, element<uint8_t>},
};

// How many elements, after checking that the last one lies in the storage, and that the storage has
// as many: with strides of 0 a few bytes could stand for any number.
uint64_t checked_count(const std::string& path, const TorchStorageView& view, uint64_t available) {
  if (view.shape.size() > kMaxRank)
    refuse(path, "data.pkl", fmt::format("at most {} dimensions", kMaxRank),
           std::to_string(view.shape.size()));
  std::optional<uint64_t> count = 1, last = static_cast<uint64_t>(view.offset);
  for (size_t i = 0; i < view.shape.size(); ++i) {
    const auto extent = static_cast<uint64_t>(view.shape[i]);
    if (extent == 0) refuse(path, "data.pkl", "sizes above 0", "0");
    if (count) count = core::checked_mul(*count, extent);
    const auto step = core::checked_mul(extent - 1, static_cast<uint64_t>(view.strides[i]));
    last = last && step ? core::checked_add(*last, *step) : std::nullopt;
  }
  if (!count || *count > kMaxElements)
    refuse(path, "data.pkl", fmt::format("at most {} elements", kMaxElements), "more");
  if (!last || *last >= available)
    refuse(path, "data/" + view.key, "all elements of the tensor",
           fmt::format("{} elements", available));
  if (*count > available)
    refuse(path, "data.pkl", fmt::format("at most the {} elements of its storage", available),
           fmt::format("{} (an expanded tensor: save a contiguous copy)", *count));
  return *count;
}

template <class T>
std::string format(const char* storage_type, const std::vector<int64_t>& shape,
                   std::span<const T> values) {
  const std::string pickle = format_torch_pickle(storage_type, shape);
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()),
                               values.size() * sizeof(T));
  return format_stored_zip({{"archive/data.pkl", pickle},
                            {"archive/byteorder", "little"},
                            {"archive/data/0", bytes},
                            {"archive/version", "3\n"}});
}

}  // namespace

TorchTensor parse_torch_tensor(const std::string& path, std::span<const std::byte> file) {
  const StoredZip archive(
      path, std::string_view(reinterpret_cast<const char*>(file.data()), file.size()));
  const TorchStorageView view = parse_torch_pickle(path, archive.at("data.pkl"));
  const Storage* storage = nullptr;
  for (const Storage& known : kStorages)
    if (known.name == view.type) storage = &known;
  if (storage == nullptr)
    refuse(path, "data.pkl", "float32, float64, bfloat16, int64, int32, uint8 or bool",
           view.type.substr(0, 64));
  const std::string_view bytes = archive.at("data/" + view.key);
  const uint64_t count = checked_count(path, view, bytes.size() / storage->width);
  TorchTensor tensor{view.shape, {}};
  tensor.values.reserve(count);
  std::vector<int64_t> index(view.shape.size(), 0);
  for (uint64_t i = 0; i < count; ++i) {
    int64_t at = view.offset;
    for (size_t d = 0; d < index.size(); ++d) at += index[d] * view.strides[d];
    tensor.values.push_back(storage->read(bytes.data() + static_cast<size_t>(at) * storage->width));
    for (size_t d = index.size(); d-- > 0 && ++index[d] == view.shape[d];) index[d] = 0;
  }
  return tensor;
}

TorchTensor read_torch_tensor(const std::filesystem::path& path) {
  const core::MappedFile file(path);
  return parse_torch_tensor(path.string(), file.bytes());
}

std::string format_torch_tensor(const std::vector<int64_t>& shape, std::span<const float> values) {
  return format("FloatStorage", shape, values);
}

std::string format_torch_tensor(const std::vector<int64_t>& shape,
                                std::span<const uint8_t> values) {
  return format("ByteStorage", shape, values);
}

}  // namespace model
