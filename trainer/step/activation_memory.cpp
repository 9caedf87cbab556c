#include "trainer/step/activation_memory.h"

#include <algorithm>

#include "autograd/kernels/gemm_scratch.h"
#include "autograd/ops.h"

namespace trainer {
namespace {

constexpr uint64_t kIdBytes = 8;         // of a token: an input and a target
constexpr uint64_t kLossBytes = 8;       // of a row, in f64
constexpr uint64_t kLogitsPadding = 64;  // elements between rows of logits, at most

// Bytes per token.
struct Sizes {
  uint64_t narrow;  // bytes of an activation
  uint64_t width, hidden, queries, values, heads;
  bool mlp_trains;
};

Sizes sizes_of(const Config& config, const model::LlamaConfig& c) {
  return {.narrow = config.model.dtype == "bfloat16" ? 2 : kFloatBytes,
          .width = static_cast<uint64_t>(c.hidden_size),
          .hidden = static_cast<uint64_t>(c.intermediate_size),
          .queries = static_cast<uint64_t>(c.num_attention_heads * c.head_dim),
          .values = static_cast<uint64_t>(c.num_key_value_heads * c.head_dim),
          .heads = static_cast<uint64_t>(c.num_attention_heads),
          .mlp_trains = config.model.trainable == "all"};
}

// What the RMSNorm before a half keeps: its input, and the scale of the row.
uint64_t norm_bytes(const Sizes& s) { return kFloatBytes * (s.width + 1); }

// Columns of the keys as the attention reads them.
uint64_t key_columns(const Sizes& s, const model::LlamaConfig& c,
                     const model::AttentionSpec& spec) {
  if (spec.method == model::LatentMethod::none) return s.values;
  return static_cast<uint64_t>(spec.rotary_columns() + spec.nope_columns(c.head_dim));
}

// Input of the projections, latents, and what the attention keeps: q, k, v, output, log-sum-exp.
uint64_t attention_bytes(const Sizes& s, const model::LlamaConfig& c,
                         const model::AttentionSpec& spec) {
  uint64_t latents = 0;
  if (spec.method != model::LatentMethod::none)
    latents = static_cast<uint64_t>(spec.latent_dims) *
              (spec.method == model::LatentMethod::split ? 2 : 1);
  // QK-norm keeps its inputs; its outputs, which RoPE does not keep, are gone.
  const uint64_t qk_norm =
      c.qk_norm
          ? s.narrow * (s.queries + s.values) +
                kFloatBytes * static_cast<uint64_t>(c.num_attention_heads + c.num_key_value_heads)
          : 0;
  return norm_bytes(s) + qk_norm +
         s.narrow * (s.width + latents + 2 * s.queries + key_columns(s, c, spec) + s.values) +
         kFloatBytes * s.heads;
}

// Gate, up, and the inputs of the products whose weights are trained.
uint64_t mlp_bytes(const Sizes& s) {
  return norm_bytes(s) + s.narrow * (2 * s.hidden + (s.mlp_trains ? s.width + s.hidden : 0));
}

// The widest place of a layer's way back, beyond what is kept: SwiGLU, with the gradients of its
// output, gate and up, when its output is gone; and the gradient of the residual stream.
uint64_t mlp_backward_bytes(const Sizes& s) {
  return kFloatBytes * s.width + s.narrow * (s.mlp_trains ? 2 : 3) * s.hidden;
}

uint64_t attention_backward_bytes(const Sizes& s, uint64_t keys) {
  return kFloatBytes * s.width + s.narrow * (2 * s.queries + keys + s.values);
}

// Both tables, [positions, D / 2] each; they grow by doubling.
uint64_t rope_table_bytes(const Config& config, const model::LlamaConfig& c) {
  uint64_t positions = 256;
  while (positions < static_cast<uint64_t>(config.tokens.sequence_length)) positions *= 2;
  return kFloatBytes * positions * static_cast<uint64_t>(c.head_dim);
}

// Bytes per token of all layers.
struct Layers {
  uint64_t kept = 0, backward = 0;
};

Layers layers_of(const Config& config, const model::ModelSpec& spec, const Sizes& s) {
  const std::string& recompute = config.parallelism.recompute;
  const uint64_t stream = kFloatBytes * s.width;
  Layers layers;
  for (const model::AttentionSpec& layer : spec.attention) {
    const uint64_t attention = attention_bytes(s, spec.config, layer), mlp = mlp_bytes(s);
    uint64_t widest = mlp_backward_bytes(s);
    if (recompute == "block") {
      layers.kept += stream;
      // Done once more: all but the input; its output is alive beside the gradient of it.
      widest += attention + mlp;
    } else if (recompute == "attention") {
      layers.kept += stream + mlp;
      // By then the MLP of this layer is done with.
      const uint64_t again =
          attention + attention_backward_bytes(s, key_columns(s, spec.config, layer));
      widest = std::max(widest, again - std::min(again, mlp));
    } else {
      layers.kept += attention + mlp;
    }
    layers.backward = std::max(layers.backward, widest);
  }
  return layers;
}

// What the largest of a chunk's three products packs: logits, dh and dw.
uint64_t loss_scratch_bytes(const Config& config, int64_t rows, int64_t width, int64_t vocabulary) {
  if (config.model.dtype != "bfloat16") return 0;
  return static_cast<uint64_t>(
      std::max({ag::gemm_scratch_bytes(rows, vocabulary, width, false, ag::DType::f32),
                ag::gemm_scratch_bytes(rows, width, vocabulary, false, ag::DType::bf16),
                ag::gemm_scratch_bytes(vocabulary, width, rows, true, ag::DType::f32)}));
}

}  // namespace

ActivationMemory activation_memory(const Config& config, const model::ModelSpec& spec) {
  const Sizes s = sizes_of(config, spec.config);
  const auto tokens =
      static_cast<uint64_t>(config.tokens.micro_batch_size * config.tokens.sequence_length);
  const uint64_t rows =
      std::min(tokens, static_cast<uint64_t>(ag::loss_chunk_rows(spec.config.hidden_size)));
  const Layers layers = layers_of(config, spec, s);
  ActivationMemory memory;
  memory.kept =
      tokens * (layers.kept + norm_bytes(s) + kIdBytes) + rope_table_bytes(config, spec.config);
  memory.loss =
      tokens * (2 * s.narrow * s.width + kLossBytes) +
      rows * kFloatBytes * (static_cast<uint64_t>(spec.config.vocab_size) + kLogitsPadding) +
      loss_scratch_bytes(config, static_cast<int64_t>(rows), spec.config.hidden_size,
                         spec.config.vocab_size);
  // The final norm has let go of its input before the layers begin.
  memory.backward = tokens * (layers.backward - std::min(layers.backward, norm_bytes(s)));
  return memory;
}

}  // namespace trainer
