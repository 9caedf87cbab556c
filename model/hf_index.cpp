#include "model/hf_index.h"

#include <fmt/format.h>

#include <string_view>

#include "core/json.h"
#include "model/hf_json.h"
#include "model/limits.h"

namespace model {
namespace {

constexpr size_t kMaxFileNameBytes = 255;

// Why so strict: the name comes from a file that somebody else wrote, and is opened.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxFileNameBytes && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\:\0", 4)) == std::string_view::npos;
}

}  // namespace

HfIndex parse_hf_index(const std::string& path, const std::string& text) {
  const nlohmann::json document = core::parse_json(path, text);
  JsonObject top(path, "", document);
  const nlohmann::json* listed = top.find("weight_map");
  if (listed == nullptr) top.fail("weight_map", "an object", "nothing");
  const JsonObject weight_map(path, "weight_map", *listed);
  if (listed->size() > kMaxTensors)
    top.fail("weight_map", fmt::format("at most {} tensors", kMaxTensors),
             std::to_string(listed->size()));
  HfIndex index;
  for (const auto& [tensor, file] : listed->items()) {
    if (tensor.size() > kMaxTensorNameBytes)
      weight_map.fail(tensor.substr(0, 64) + "...",
                      fmt::format("a name of at most {} bytes", kMaxTensorNameBytes),
                      std::to_string(tensor.size()));
    if (!file.is_string()) weight_map.fail(tensor, "a file name", shown(file));
    if (!is_plain_name(file.get_ref<const std::string&>()))
      weight_map.fail(tensor, "the plain name of a file in the same folder", shown(file));
    index.weight_map.emplace(tensor, file.get<std::string>());
  }
  if (const nlohmann::json* metadata = top.find("metadata")) {
    JsonObject object(path, "metadata", *metadata);
    if (const nlohmann::json* total = object.find("total_size")) index.total_size = *total;
  }
  return index;
}

}  // namespace model
