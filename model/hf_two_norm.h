// The pairs that 2-norm chose, as the public MHA2MLA code keeps them: a file of torch.save,
//   v1  float32 [L, G, P]  scores; the r highest of a head are kept
//   v2  uint8 [L, G, D]    ranks; a pair of rank below r is kept, both of its columns carry the
//   rank
// and, in the folders that this program writes, "kept_pairs" in config.json (hf_mla_config.h).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/hf_layout.h"

namespace model {

// The kept pairs of each layer, without a latent. Reads "kept_pairs" of `document`, the config.json
// of `folder`, and the file whose name ends the path `file`; one of them may be missing, both must
// agree. Throws kBadData, kMissingInput without either. Requires: 0 <= r <= P.
std::vector<AttentionSpec> read_two_norm(const std::filesystem::path& folder,
                                         const nlohmann::json& document, const LlamaConfig& config,
                                         HfLayout layout, const std::string& file, int64_t r);

// "kept_pairs".
nlohmann::json list_of_pairs(const ModelSpec& spec);

// The bytes of the file. Scores are 1 for kept pairs and 0 for the others, ranks ascend with the
// pairs. Requires: for v2 at most 256 pairs per head.
std::string format_two_norm(const ModelSpec& spec, HfLayout layout);

}  // namespace model
