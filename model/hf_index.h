// model.safetensors.index.json: {"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: FILE}}.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace model {

struct HfIndex {
  std::map<std::string, std::string> weight_map;  // tensor -> plain name of a file beside the index
  nlohmann::json total_size;                      // as it is written there; null when it is not
};

// Throws kBadData naming `path`, key, expected and found. Limits: 65,536 tensors, names of 512
// bytes, files of 255.
HfIndex parse_hf_index(const std::string& path, const std::string& text);

}  // namespace model
