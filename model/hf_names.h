// Tensor names of Hugging Face Llama, Qwen2, Qwen3 and Mistral models <-> parameter paths of this
// program.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace model {

// "model.layers.3.self_attn.q_proj.weight" -> "layers.3.attn.q.weight"; nothing for other names.
std::optional<std::string> path_of_hf_name(const std::string& name);

// The way back; nothing for paths that only a converted model has.
std::optional<std::string> hf_name_of_path(const std::string& path);

// The config.json keys from which a parameter's shape follows, "[vocab_size, hidden_size]"; empty
// for an unknown path.
std::string hf_shape_rule(const std::string& path);

// For messages: "12 (a, b, ...)", the first ten.
std::string shown_names(const std::vector<std::string>& names);

}  // namespace model
