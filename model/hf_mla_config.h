// How config.json of the public MHA2MLA code describes a converted model:
//   v1  "RoPE": {partial_rope_version, top_k_rope_dim, last_k_rope_dim, uniform_start_point,
//                uniform_step, qk_tensor_path, n_gqa_group}, "SVD": {method, low_rank}
//   v2  "mha2mla": {partial_rope_version, rope_dim_for_mla, uniform_start_point, qk_tensor_path,
//                   svd_init_method, low_rank, is_baseline, is_gqa2mha2mla, ...}
// With 2-norm both name a file of torch.save: v1 scores [L, G, P], v2 ranks [L, G, D]. An export
// repeats what follows from it as "kept_pairs": [[ "17,19,22,23" per kv head ] per layer].
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/hf_layout.h"

namespace model {

// The keys above: they belong to no source model.
inline constexpr const char* kHfMlaKeys[] = {"RoPE", "SVD", "mha2mla", "kept_pairs"};

struct HfMla {
  HfLayout layout = HfLayout::v1;
  std::vector<AttentionSpec> attention;  // one per layer
};

// What `document`, the config.json of `folder`, says; nothing when it has none of the blocks, or
// says itself that the model is not converted. The file that it names is looked for in the folder,
// whatever its path was. Throws kBadData naming key, expected and found; kMissingInput without that
// file. Keys that play no role are appended to `ignored_keys`.
std::optional<HfMla> read_hf_mla(const std::filesystem::path& folder,
                                 const nlohmann::json& document, const LlamaConfig& config,
                                 std::vector<std::string>* ignored_keys = nullptr);

// The public code scales by yarn's attention factor only what rotates; here, as in the source, it
// scales all scores.
bool public_code_scales_otherwise(const ModelSpec& spec);

struct HfMlaDescription {
  nlohmann::json blocks;              // keys of config.json
  std::string file_name, file_bytes;  // the file that they name; empty without one
};

// Throws kBadConfig naming `origin`, layer, expected and found for what the layout has no words
// for: heads with different numbers of pairs, layers with different latents, yarn's attention
// factor, families that its code does not know, v1 with biases, v2 with no pair or all.
HfMlaDescription describe_hf_mla(const ModelSpec& spec, HfLayout layout, const std::string& origin);

}  // namespace model
