// config.json of a Hugging Face model folder -> LlamaConfig. Whatever would change the model's
// results and is not supported here is refused by name; what cannot change them is ignored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/config.h"

namespace model {

// Reads model_type llama, qwen2, qwen3 or mistral, and rope types as read_rope() does. Keys that
// are neither used nor known to be harmless are appended to `ignored_keys`, to be shown once.
// Throws kBadData naming file, key, expected and found; kMissingInput without the file.
LlamaConfig read_hf_config(const std::filesystem::path& config_json,
                           std::vector<std::string>* ignored_keys = nullptr);

// The same from the text of the file; `path` names it in errors.
LlamaConfig parse_hf_config(const std::string& path, const std::string& text,
                            std::vector<std::string>* ignored_keys = nullptr);

// The value of `eos_token_id` in either file of a folder: an id, a list of ids, null or absent.
// Requires: `object` is a JSON object; `path` names it in errors.
std::vector<int64_t> read_eos_token_ids(const std::string& path, const nlohmann::json& object);

}  // namespace model
