#include "model/config.h"

#include <numeric>

namespace model {
namespace {

const std::string kLayers = "layers.";

}  // namespace

int64_t LlamaConfig::context_length() const {
  if (rope.type != RopeParameters::Type::dynamic) return max_position_embeddings;
  return static_cast<int64_t>(static_cast<double>(max_position_embeddings) * rope.factor);
}

int64_t AttentionSpec::rotary_columns() const {
  int64_t columns = 0;
  for (const auto& pairs : kept_pairs) columns += 2 * static_cast<int64_t>(pairs.size());
  return columns;
}

int64_t AttentionSpec::nope_columns(int64_t head_dim) const {
  return static_cast<int64_t>(kept_pairs.size()) * head_dim - rotary_columns();
}

ModelSpec ModelSpec::unconverted(const LlamaConfig& config) {
  std::vector<int32_t> all(static_cast<size_t>(config.pairs()));
  std::iota(all.begin(), all.end(), 0);
  AttentionSpec dense{.kept_pairs = {static_cast<size_t>(config.num_key_value_heads), all}};
  return {config, {static_cast<size_t>(config.num_hidden_layers), dense}};
}

bool ModelSpec::is_converted() const { return attention != unconverted(config).attention; }

int64_t ModelSpec::cache_elements_per_token() const {
  int64_t elements = 0;
  for (const AttentionSpec& layer : attention) {
    if (layer.method == LatentMethod::none) {
      elements += 2 * config.num_key_value_heads * config.head_dim;
      continue;
    }
    const bool two = layer.method == LatentMethod::split && layer.nope_columns(config.head_dim) > 0;
    elements += layer.rotary_columns() + (two ? 2 : 1) * layer.latent_dims;
  }
  return elements;
}

int64_t ModelSpec::parameter_count() const {
  int64_t count = 0;
  for (const ParameterShape& p : parameter_shapes(*this)) count += p.shape.numel();
  return count;
}

namespace {

class Lister {
 public:
  explicit Lister(const ModelSpec& spec) : spec_(spec) {}

  std::vector<ParameterShape> list() {
    const LlamaConfig& c = spec_.config;
    add("embed.weight", {c.vocab_size, c.hidden_size});
    for (size_t layer = 0; layer < spec_.attention.size(); ++layer) {
      const std::string prefix = layer_prefix(static_cast<int64_t>(layer));
      add(prefix + "attn_norm.weight", {c.hidden_size});
      attention(prefix + "attn.", spec_.attention[layer]);
      add(prefix + "mlp_norm.weight", {c.hidden_size});
      projection(prefix + "mlp.gate", c.intermediate_size, c.hidden_size, c.mlp_bias);
      projection(prefix + "mlp.up", c.intermediate_size, c.hidden_size, c.mlp_bias);
      projection(prefix + "mlp.down", c.hidden_size, c.intermediate_size, c.mlp_bias);
    }
    add("norm.weight", {c.hidden_size});
    if (!c.tie_word_embeddings) add("lm_head.weight", {c.vocab_size, c.hidden_size});
    return std::move(list_);
  }

 private:
  void attention(const std::string& prefix, const AttentionSpec& layer) {
    const LlamaConfig& c = spec_.config;
    const int64_t q_columns = c.num_attention_heads * c.head_dim;
    const int64_t kv_columns = c.num_key_value_heads * c.head_dim;
    projection(prefix + "q", q_columns, c.hidden_size, c.qkv_bias);
    if (c.qk_norm) {
      add(prefix + "q_norm.weight", {c.head_dim});
      add(prefix + "k_norm.weight", {c.head_dim});
    }
    if (layer.method == LatentMethod::none) {
      projection(prefix + "k", kv_columns, c.hidden_size, c.qkv_bias);
      projection(prefix + "v", kv_columns, c.hidden_size, c.qkv_bias);
    } else {
      const int64_t nope = layer.nope_columns(c.head_dim);
      projection(prefix + "k_rope", layer.rotary_columns(), c.hidden_size, c.qkv_bias);
      if (layer.method == LatentMethod::joint) {
        projection(prefix + "kv_down", layer.latent_dims, c.hidden_size, false);
      } else {
        projection(prefix + "k_down", nope > 0 ? layer.latent_dims : 0, c.hidden_size, false);
        projection(prefix + "v_down", layer.latent_dims, c.hidden_size, false);
      }
      projection(prefix + "k_up", nope, layer.latent_dims, c.qkv_bias);
      projection(prefix + "v_up", kv_columns, layer.latent_dims, c.qkv_bias);
    }
    projection(prefix + "o", c.hidden_size, q_columns, c.output_bias);
  }

  void projection(const std::string& name, int64_t out, int64_t in, bool bias) {
    if (out == 0) return;
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  }

  void add(const std::string& path, ag::Shape shape) { list_.push_back({path, shape}); }

  const ModelSpec& spec_;
  std::vector<ParameterShape> list_;
};

}  // namespace

std::vector<ParameterShape> parameter_shapes(const ModelSpec& spec) { return Lister(spec).list(); }

std::string layer_prefix(int64_t layer) { return kLayers + std::to_string(layer) + "."; }

int64_t layer_of(const std::string& path) {
  if (!path.starts_with(kLayers)) return -1;
  return std::stoll(path.substr(kLayers.size()));
}

const char* output_path(const LlamaConfig& config) {
  return config.tie_word_embeddings ? "embed.weight" : "lm_head.weight";
}

}  // namespace model
