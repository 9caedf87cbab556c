#include "trainer/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "model/llama.h"
#include "trainer/gradient_reduction.h"

namespace trainer {
namespace {

constexpr uint64_t kWide = 4;  // bytes of f32

struct ParameterCounts {
  uint64_t all = 0, trainable = 0, matrices = 0;
};

ParameterCounts count_parameters(const Config& config, const model::ModelSpec& spec) {
  const auto trainable =
      config.model.trainable == "all" ? model::Trainable::all : model::Trainable::attention;
  ParameterCounts counts;
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    const auto numel = static_cast<uint64_t>(p.shape.numel());
    counts.all += numel;
    if (model::is_trainable(p.path, trainable)) counts.trainable += numel;
    if (p.path.find("norm") == std::string::npos) counts.matrices += numel;
  }
  return counts;
}

// Bytes per token that a layer keeps: attention with its norm, and the MLP with its norm. Each half
// keeps its wide input; of attention q twice (before and after RoPE) and the output.
struct LayerBytes {
  uint64_t attention, mlp;
};

LayerBytes layer_bytes(const model::LlamaConfig& c, const model::AttentionSpec& spec,
                       uint64_t narrow) {
  const auto d = static_cast<uint64_t>(c.hidden_size);
  const auto queries = static_cast<uint64_t>(c.num_attention_heads * c.head_dim);
  const auto values = static_cast<uint64_t>(c.num_key_value_heads * c.head_dim);
  const auto rotary = static_cast<uint64_t>(spec.rotary_columns());
  const auto nope = static_cast<uint64_t>(spec.nope_columns(c.head_dim));
  const auto latents =
      static_cast<uint64_t>(spec.latent_dims) * (spec.method == model::LatentMethod::split ? 2 : 1);
  const uint64_t keys =
      spec.method == model::LatentMethod::none ? 2 * values : 2 * rotary + nope + latents;
  return {kWide * d + narrow * (d + 3 * queries + keys + values),
          kWide * d + narrow * (d + 3 * static_cast<uint64_t>(c.intermediate_size))};
}

uint64_t activation_bytes(const Config& config, const model::ModelSpec& spec) {
  const model::LlamaConfig& c = spec.config;
  const uint64_t narrow = config.model.dtype == "bfloat16" ? 2 : kWide;
  const auto d = static_cast<uint64_t>(c.hidden_size);
  uint64_t kept = (kWide + narrow) * d;  // input and output of the final norm
  uint64_t recomputed = 0;               // alive once, for the layer that is done again
  for (const model::AttentionSpec& layer : spec.attention) {
    const LayerBytes bytes = layer_bytes(c, layer, narrow);
    if (config.parallelism.recompute == "block") {
      kept += kWide * d;
      recomputed = std::max(recomputed, bytes.attention + bytes.mlp);
    } else if (config.parallelism.recompute == "attention") {
      kept += kWide * d + bytes.mlp;
      recomputed = std::max(recomputed, bytes.attention);
    } else {
      kept += bytes.attention + bytes.mlp;
    }
  }
  const auto tokens =
      static_cast<uint64_t>(config.tokens.micro_batch_size * config.tokens.sequence_length);
  return tokens * (kept + recomputed);
}

// The number in a file that holds nothing else; the largest number for "max" or no file.
uint64_t read_limit(const char* path) {
  uint64_t value = 0;
  return std::ifstream(path) >> value ? value : std::numeric_limits<uint64_t>::max();
}

}  // namespace

uint64_t available_memory_bytes() {
  uint64_t available = std::numeric_limits<uint64_t>::max();
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    uint64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) available = kib * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  const uint64_t limit = read_limit("/sys/fs/cgroup/memory.max");
  const uint64_t used = read_limit("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<uint64_t>::max() && used <= limit)
    available = std::min(available, limit - used);
  return available;
}

MemoryEstimate estimate_memory(const Config& config, const model::ModelSpec& spec, int ranks) {
  const ParameterCounts counts = count_parameters(config, spec);
  const ShardPlan plan(config.parallelism.reduction_shards, ranks, 0);
  uint64_t others = 0;  // subtrees, of which two parts each are on their way
  for (int rank = 1; rank < ranks; ++rank) others += plan.subtrees(rank).size();
  MemoryEstimate estimate;
  estimate.weights = kWide * counts.all;
  if (config.model.dtype == "bfloat16") estimate.weights += 2 * counts.matrices;
  estimate.gradients = kWide * counts.trainable * static_cast<uint64_t>(plan.peak_values());
  estimate.gradients += 2 * others * kGradientPartBytes;
  estimate.optimizer = 2 * kWide * counts.trainable;
  estimate.activations = activation_bytes(config, spec);
  estimate.snapshot = checkpoint_bytes(config, spec);
  return estimate;
}

uint64_t checkpoint_bytes(const Config& config, const model::ModelSpec& spec) {
  const ParameterCounts counts = count_parameters(config, spec);
  return kWide * counts.all + 2 * kWide * counts.trainable;
}

}  // namespace trainer
