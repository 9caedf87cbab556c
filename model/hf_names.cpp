#include "model/hf_names.h"

#include <algorithm>
#include <span>
#include <string_view>

namespace model {
namespace {

struct Row {
  std::string_view hf, path;  // without .weight or .bias
  std::string_view shape;     // of the weight
};

constexpr Row kTop[] = {
    {"model.embed_tokens", "embed", "[vocab_size, hidden_size]"},
    {"model.norm", "norm", "[hidden_size]"},
    {"lm_head", "lm_head", "[vocab_size, hidden_size]"},
};

constexpr std::string_view kHfLayer = "model.layers.", kLayer = "layers.";
constexpr Row kInLayer[] = {
    {"input_layernorm", "attn_norm", "[hidden_size]"},
    {"self_attn.q_proj", "attn.q", "[num_attention_heads * head_dim, hidden_size]"},
    {"self_attn.q_norm", "attn.q_norm", "[head_dim]"},
    {"self_attn.k_norm", "attn.k_norm", "[head_dim]"},
    {"self_attn.k_proj", "attn.k", "[num_key_value_heads * head_dim, hidden_size]"},
    {"self_attn.v_proj", "attn.v", "[num_key_value_heads * head_dim, hidden_size]"},
    {"self_attn.o_proj", "attn.o", "[hidden_size, num_attention_heads * head_dim]"},
    {"post_attention_layernorm", "mlp_norm", "[hidden_size]"},
    {"mlp.gate_proj", "mlp.gate", "[intermediate_size, hidden_size]"},
    {"mlp.up_proj", "mlp.up", "[intermediate_size, hidden_size]"},
    {"mlp.down_proj", "mlp.down", "[hidden_size, intermediate_size]"},
};

using Column = std::string_view Row::*;

struct Found {
  std::string_view layer;  // its number as written, empty at the top
  const Row* row;
  std::string_view suffix;  // .weight or .bias
};

// Splits a name of one column into layer number, table row and suffix.
std::optional<Found> find(std::string_view name, Column column, std::string_view layer_prefix) {
  std::string_view suffix = name.ends_with(".bias") ? ".bias" : ".weight";
  if (!name.ends_with(suffix)) return std::nullopt;
  name.remove_suffix(suffix.size());
  std::string_view layer;
  std::span<const Row> rows = kTop;
  if (name.starts_with(layer_prefix)) {
    name.remove_prefix(layer_prefix.size());
    const size_t dot = name.find('.');
    layer = name.substr(0, dot);
    const bool number = !layer.empty() &&
                        std::ranges::all_of(layer, [](char c) { return c >= '0' && c <= '9'; }) &&
                        (layer.size() == 1 || layer[0] != '0');
    if (dot == std::string_view::npos || !number) return std::nullopt;
    name.remove_prefix(dot + 1);
    rows = kInLayer;
  }
  for (const Row& row : rows)
    if (row.*column == name) return Found{layer, &row, suffix};
  return std::nullopt;
}

std::string join(const Found& found, Column column, std::string_view layer_prefix) {
  std::string name;
  if (!found.layer.empty()) name.append(layer_prefix).append(found.layer).append(".");
  return name.append(found.row->*column).append(found.suffix);
}

}  // namespace

std::optional<std::string> path_of_hf_name(const std::string& name) {
  const std::optional<Found> found = find(name, &Row::hf, kHfLayer);
  return found ? std::optional(join(*found, &Row::path, kLayer)) : std::nullopt;
}

std::optional<std::string> hf_name_of_path(const std::string& path) {
  const std::optional<Found> found = find(path, &Row::path, kLayer);
  return found ? std::optional(join(*found, &Row::hf, kHfLayer)) : std::nullopt;
}

std::string hf_shape_rule(const std::string& path) {
  const std::optional<Found> found = find(path, &Row::path, kLayer);
  if (!found) return "";
  const std::string_view shape = found->row->shape;
  if (found->suffix == ".weight") return std::string(shape);
  return std::string(shape.substr(0, shape.find(','))) +
         (shape.find(',') < shape.size() ? "]" : "");
}

std::string shown_names(const std::vector<std::string>& names) {
  constexpr size_t kMost = 10;
  std::string text = std::to_string(names.size()) + " (";
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i)
    text.append(i > 0 ? ", " : "").append(names[i]);
  return text.append(names.size() > kMost ? ", ...)" : ")");
}

}  // namespace model
