// What a model is, apart from its numbers: the Llama-family configuration of the source, and per
// layer which frequency pairs keep RoPE and how wide the latent is. Sizes never come from one
// global r or c.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/core/shape.h"

namespace model {

// Rotary embedding of the source: inverse frequency theta^(-2k/D) of pair k, then the scaling
// (model/rope.h).
struct RopeParameters {
  enum class Type { standard, linear, dynamic, llama3, yarn };
  Type type = Type::standard;
  double theta = 10000;
  double factor = 1;                                 // all but standard
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn
  double attention_factor = 1;                       // yarn: its square multiplies all scores
  int64_t original_max_position_embeddings = 0;      // dynamic, llama3, yarn

  friend bool operator==(const RopeParameters&, const RopeParameters&) = default;
};

// A pre-norm decoder with RMSNorm, RoPE, SwiGLU: Llama, Mistral, Qwen2, Qwen3.
struct LlamaConfig {
  std::string model_type = "llama";
  int64_t vocab_size = 0;           // V
  int64_t hidden_size = 0;          // d
  int64_t intermediate_size = 0;    // F
  int64_t num_hidden_layers = 0;    // L
  int64_t num_attention_heads = 0;  // H
  int64_t num_key_value_heads = 0;  // G, divides H
  int64_t head_dim = 0;             // D, even; H * D need not be d
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;  // RMSNorm of every head of q and of k before RoPE, with one gain [D] each
  RopeParameters rope;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;

  int64_t pairs() const { return head_dim / 2; }  // P
  // Positions that the model is made for; dynamic rope stretches them by its factor.
  int64_t context_length() const;

  friend bool operator==(const LlamaConfig&, const LlamaConfig&) = default;
};

// none: k and v are projected from x. joint: one latent for the NoPE part of k and for v.
// split: one latent each.
enum class LatentMethod { none, joint, split };

// The attention of one layer.
struct AttentionSpec {
  // Per kv head the pairs that keep their rotation, ascending. All P pairs: RoPE as in the source.
  std::vector<std::vector<int32_t>> kept_pairs;
  LatentMethod method = LatentMethod::none;
  int64_t latent_dims = 0;  // C of this layer; with split of each of its two latents

  int64_t rotary_columns() const;                // sum over kv heads of 2 r
  int64_t nope_columns(int64_t head_dim) const;  // sum over kv heads of D - 2 r

  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

struct ModelSpec {
  LlamaConfig config;
  std::vector<AttentionSpec> attention;  // one per layer

  // The source as it is: every pair kept, no latent.
  static ModelSpec unconverted(const LlamaConfig& config);
  bool is_converted() const;
  // Elements per token that decoding must keep, summed over layers: 2 G D dense; with a latent the
  // rotary columns and C, or 2 C with split (C when no pair lost its rotation: K has no latent).
  int64_t cache_elements_per_token() const;
  int64_t parameter_count() const;

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

struct ParameterShape {
  std::string path;  // layers.3.attn.kv_down.weight
  ag::Shape shape;   // weights [out, in], biases and norms [out]
};

// Every parameter of the model in storage order. Paths (contract 1):
//   embed.weight, norm.weight, lm_head.weight (untied only),
//   layers.N.{attn_norm, mlp_norm}.weight, layers.N.mlp.{gate, up, down}.weight,
//   layers.N.attn.{q, k, v, o}.weight without a latent,
//   layers.N.attn.{q_norm, k_norm}.weight with QK-norm (never with a latent),
//   layers.N.attn.{q, k_rope, kv_down | k_down + v_down, k_up, v_up, o}.weight with one;
// biases as .bias: q, k, v, o as in the source; k splits into k_rope.bias and k_up.bias, v becomes
// v_up.bias. A projection without rows (k_rope at r = 0; k_up and k_down at r = P) does not exist.
std::vector<ParameterShape> parameter_shapes(const ModelSpec& spec);

// "layers.3.", how the paths of layer 3 begin, and back; -1 for a path of no layer.
std::string layer_prefix(int64_t layer);
int64_t layer_of(const std::string& path);

// Of the output matrix: the embedding's where they are tied.
const char* output_path(const LlamaConfig& config);

}  // namespace model
