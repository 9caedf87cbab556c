// The header of a safetensors file, and its tensors. Oracle: the rules of the format written down a
// second time, over the JSON tree, in 128-bit arithmetic.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "model/safetensors.h"
#include "tests/fuzz/fuzz.h"

namespace {

using Wide = unsigned __int128;

unsigned bits_of(const std::string& dtype) {
  if (dtype == "F4") return 4;
  if (dtype.starts_with("F6_")) return 6;
  if (dtype == "BOOL" || dtype == "U8" || dtype == "I8" || dtype.starts_with("F8_")) return 8;
  if (dtype == "BF16" || dtype.ends_with("16")) return 16;
  return dtype.ends_with("32") ? 32 : 64;
}

void check_slowly(const nlohmann::json& header, uint64_t data_bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    Wide bits = bits_of(entry.at("dtype").get<std::string>());
    for (const nlohmann::json& extent : entry.at("shape")) bits *= extent.get<uint64_t>();
    const auto begin = entry.at("data_offsets").at(0).get<uint64_t>();
    const auto end = entry.at("data_offsets").at(1).get<uint64_t>();
    fuzz::require(begin <= end && Wide{end - begin} * 8 == bits, "offsets fit shape and type");
    ranges.emplace_back(begin, end);
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t position = 0;
  for (const auto& [begin, end] : ranges) {
    fuzz::require(begin == position, "no hole and no overlap");
    position = end;
  }
  fuzz::require(position == data_bytes, "the tensors end with the file");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  model::SafetensorsHeader header;
  if (!fuzz::accepts([&] { header = model::parse_safetensors_header("x.safetensors", file); }))
    return 0;
  const nlohmann::json slow =
      nlohmann::json::parse(data + 8, data + header.data_offset, nullptr, false);
  fuzz::require(slow.is_object(), "an accepted header is JSON");
  fuzz::require(slow.size() == header.tensors.size() + slow.count("__metadata__"),
                "every entry is read");
  check_slowly(slow, size - header.data_offset);
  for (const auto& entry : header.tensors)
    fuzz::accepts([&] {
      const model::StoredTensor& tensor = entry.second;
      const ag::Tensor loaded =
          model::load_tensor("x.safetensors", entry.first, tensor, header.bytes_of(tensor, file));
      fuzz::require(loaded.shape().rank() == static_cast<int>(tensor.shape.size()), "same rank");
    });
  return 0;
}
