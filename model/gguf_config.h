// The metadata of a GGUF file of architecture "llama" -> the text of the config.json that a Hugging
// Face folder of the same model would have.
#pragma once

#include <string>
#include <vector>

#include "model/gguf.h"

namespace model {

// Throws kBadData naming key, expected and found for another architecture, for keys that are
// missing, and for those that change what the model computes and are not supported. Keys of the
// architecture that are not known are appended to `notes`. What it returns is not yet checked as a
// configuration: parse_hf_config() does that.
std::string gguf_config_json(const GgufHeader& gguf, std::vector<std::string>& notes);

}  // namespace model
