// model.safetensors.index.json.
#include "model/hf_index.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  model::HfIndex index;
  if (!fuzz::accepts([&] { index = model::parse_hf_index("index.json", text); })) return 0;
  const nlohmann::json slow = nlohmann::json::parse(text, nullptr, false);
  fuzz::require(slow.is_object(), "an accepted index is JSON");
  fuzz::require(slow.at("weight_map").size() == index.weight_map.size(), "every entry is read");
  for (const auto& [tensor, file] : index.weight_map)
    fuzz::require(!file.empty() && file.find('/') == std::string::npos && file != "..",
                  "a file of the same folder");
  return 0;
}
