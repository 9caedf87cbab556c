// The rope of a config.json, in the old spelling (rope_theta, rope_scaling) and in the new one
// (rope_parameters): types default, linear, dynamic, llama3 and yarn.
#pragma once

#include <string>

#include "model/config.h"
#include "model/hf_json.h"

namespace model {

// `json` is the whole configuration, `path` its file. A type that is not known, a key that its type
// does not have, and spellings that contradict each other are refused: kBadData.
RopeParameters read_rope(const std::string& path, JsonObject& json,
                         int64_t max_position_embeddings);

}  // namespace model
