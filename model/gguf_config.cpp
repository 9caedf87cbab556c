#include "model/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "model/hf_names.h"
#include "model/limits.h"
#include "model/rope.h"

namespace model {
namespace {

using nlohmann::ordered_json;

constexpr const char* kPrefix = "llama.";
constexpr const char* kRopeFrequencies = "rope_freqs.weight";

// Keys without influence on this program.
constexpr std::string_view kIgnoredMetadata[] = {"rope.scaling.finetuned", "tensor_data_layout"};

// Keys that change what the model computes, and the value at which they do not.
constexpr std::pair<const char*, double> kUnsupportedMetadata[] = {
    {"expert_count", 0},
    {"expert_used_count", 0},
    {"attention.sliding_window", 0},
    {"attention.scale", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"embedding_scale", 1},
    {"residual_scale", 1},
    {"logit_scale", 1},
    {"rope.scale_linear", 1},
    {"rope.scaling.attn_factor", 1},
};

class ConfigMaker {
 public:
  explicit ConfigMaker(const GgufHeader& gguf) : gguf_(gguf), metadata_(gguf.metadata) {}

  ordered_json make() {
    const auto architecture = metadata_.string("general.architecture");
    if (architecture.value_or("") != "llama")
      metadata_.fail("general.architecture", "llama", architecture.value_or("nothing"),
                     "of GGUF files those of the Llama architecture are read");
    if (metadata_.integer("split.count", 0, UINT16_MAX).value_or(1) > 1)
      metadata_.fail("split.count", "1", "one part of a model in several files",
                     "merge the parts into one file first");
    refuse_unsupported();
    config_["architectures"] = {"LlamaForCausalLM"};
    config_["model_type"] = "llama";
    sizes();
    biases();
    rope();
    token_ids();
    config_["dequantized_from"] = stored_types();
    return std::move(config_);
  }

  // Keys of the architecture that nobody asked for.
  std::vector<std::string> unknown_keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : metadata_.values()) {
      if (!key.starts_with(kPrefix)) continue;
      const std::string name = key.substr(std::string_view(kPrefix).size());
      if (!used_.contains(name) &&
          std::ranges::find(kIgnoredMetadata, name) == std::end(kIgnoredMetadata))
        keys.push_back(key);
    }
    return keys;
  }

 private:
  std::string key(const std::string& name) {
    used_.insert(name);
    return kPrefix + name;
  }

  int64_t integer(const std::string& name, int64_t most) {
    const auto value = metadata_.integer(key(name), 1, most);
    if (!value) metadata_.fail(key(name), fmt::format("an integer from 1 to {}", most), "nothing");
    return *value;
  }

  void refuse_unsupported() {
    for (const auto& [name, neutral] : kUnsupportedMetadata) {
      if (!metadata_.contains(key(name))) continue;
      const GgufValue& value = metadata_.values().at(key(name));
      const bool real = value.type == GgufType::f32 || value.type == GgufType::f64;
      const double found =
          real ? metadata_.number(key(name)).value()
               : static_cast<double>(metadata_.integer(key(name), 0, INT64_MAX).value());
      if (found != neutral)
        metadata_.fail(key(name), fmt::format("{} or nothing", neutral), fmt::format("{}", found),
                       "this change of the Llama architecture is not supported");
    }
    if (!metadata_.boolean(key("attention.causal")).value_or(true))
      metadata_.fail(key("attention.causal"), "true", "false");
  }

  const GgufTensor& embedding() const {
    const auto found = gguf_.tensors.find("token_embd.weight");
    if (found == gguf_.tensors.end() || found->second.shape.size() != 2)
      core::fail(core::ExitCode::kBadData,
                 {.path = metadata_.path(),
                  .place = "token_embd.weight",
                  .field = "tensor",
                  .expected = "a matrix",
                  .found = found == gguf_.tensors.end() ? "nothing" : to_string(found->second)});
    return found->second;
  }

  void sizes() {
    const int64_t rows = embedding().shape[0], heads = integer("attention.head_count", kMaxExtent);
    if (const auto vocab = metadata_.integer(key("vocab_size"), 1, kMaxExtent);
        vocab && *vocab != rows)
      metadata_.fail(key("vocab_size"), fmt::format("{}, the rows of token_embd.weight", rows),
                     std::to_string(*vocab));
    config_["vocab_size"] = rows;
    const int64_t width = integer("embedding_length", kMaxExtent);
    config_["hidden_size"] = width;
    config_["intermediate_size"] = integer("feed_forward_length", kMaxExtent);
    config_["num_hidden_layers"] = integer("block_count", kMaxLayers);
    config_["num_attention_heads"] = heads;
    config_["num_key_value_heads"] = kv_heads().value_or(heads);
    head_dim_ =
        metadata_.integer(key("attention.key_length"), 1, kMaxExtent).value_or(width / heads);
    for (const char* other :
         {"attention.key_length", "attention.value_length", "rope.dimension_count"})
      if (const auto dim = metadata_.integer(key(other), 1, kMaxExtent); dim && *dim != head_dim_)
        metadata_.fail(key(other), fmt::format("{}, the width of a head", head_dim_),
                       std::to_string(*dim),
                       "heads of one width that rotate as a whole are supported");
    config_["head_dim"] = head_dim_;
    config_["max_position_embeddings"] = integer("context_length", kMaxPosition);
    config_["hidden_act"] = "silu";
    const auto eps = metadata_.number(key("attention.layer_norm_rms_epsilon"));
    if (!eps) metadata_.fail(key("attention.layer_norm_rms_epsilon"), "a number", "nothing");
    config_["rms_norm_eps"] = *eps;
    config_["tie_word_embeddings"] = !gguf_.tensors.contains("output.weight");
  }

  // One number, or one for each layer, which must then be the same.
  std::optional<int64_t> kv_heads() {
    const std::string name = key("attention.head_count_kv");
    if (!metadata_.contains(name) || !metadata_.values().at(name).count)
      return metadata_.integer(name, 1, kMaxExtent);
    const std::vector<int64_t> list = metadata_.integers(name, kMaxLayers).value();
    if (config_.at("num_hidden_layers") != list.size() || list.empty() ||
        std::ranges::adjacent_find(list, std::not_equal_to<>()) != list.end())
      metadata_.fail(name, "one number for each layer, all the same", "others");
    return list.front();
  }

  // Not in the metadata: a model has the biases whose tensors it has.
  void biases() {
    config_["attention_bias"] = gguf_.tensors.contains("blk.0.attn_q.bias");
    config_["mlp_bias"] = gguf_.tensors.contains("blk.0.ffn_up.bias");
  }

  void rope() {
    RopeParameters plain;
    plain.theta = metadata_.number(key("rope.freq_base")).value_or(plain.theta);
    config_["rope_theta"] = plain.theta;
    // A file that gives a factor alone means linear, as its reference reader takes it.
    const std::string type = metadata_.string(key("rope.scaling.type")).value_or("linear");
    if (type != "none" && type != "linear")
      metadata_.fail(key("rope.scaling.type"), "none or linear", type,
                     "other types are not read from GGUF files");
    const double stored = metadata_.number(key("rope.scaling.factor")).value_or(1);
    const double factor = type == "linear" && stored != 0 ? stored : 1;
    const auto original =
        metadata_.integer(key("rope.scaling.original_context_length"), 0, kMaxPosition);
    config_["rope_scaling"] = nullptr;
    if (factor != 1) config_["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    if (!gguf_.tensors.contains(kRopeFrequencies)) return;
    if (factor != 1)
      metadata_.fail(key("rope.scaling.factor"), fmt::format("1 beside {}", kRopeFrequencies),
                     fmt::format("{}", factor));
    config_["rope_scaling"] = llama3(plain, original.value_or(8192));
  }

  // The divisors of the frequencies that a Llama 3 file holds, as the parameters they come from.
  ordered_json llama3(RopeParameters rope, int64_t original) {
    const GgufTensor& tensor = gguf_.tensors.at(kRopeFrequencies);
    const auto refuse = [&](const std::string& expected) {
      core::fail(core::ExitCode::kBadData, {.path = metadata_.path(),
                                            .place = kRopeFrequencies,
                                            .field = "values",
                                            .expected = expected,
                                            .found = to_string(tensor) + " of others"});
    };
    if (2 * tensor.elements() != static_cast<uint64_t>(head_dim_))
      refuse(fmt::format("{}, half of a head", head_dim_ / 2));
    std::vector<float> divisors(tensor.elements());
    decode_gguf_blocks(*tensor.block, tensor.bytes, divisors);
    const std::vector<double> plain = inverse_frequencies(rope, head_dim_, 0);
    rope.type = RopeParameters::Type::llama3;
    rope.factor = static_cast<double>(divisors.back());
    rope.original_max_position_embeddings = std::max<int64_t>(original, 1);
    const std::vector<double> scaled = inverse_frequencies(rope, head_dim_, 0);
    for (size_t k = 0; k < plain.size(); ++k) {
      const double divisor = plain[k] / scaled[k];
      if (!(std::abs(divisor - static_cast<double>(divisors[k])) <= 1e-4 * divisor))
        refuse(fmt::format(
            "the divisors of rope type llama3 with factor {}, frequency factors 1 and 4 and {} "
            "original positions",
            rope.factor, rope.original_max_position_embeddings));
    }
    return {{"rope_type", "llama3"},
            {"factor", rope.factor},
            {"low_freq_factor", rope.low_freq_factor},
            {"high_freq_factor", rope.high_freq_factor},
            {"original_max_position_embeddings", rope.original_max_position_embeddings}};
  }

  void token_ids() {
    const auto id = [&](const char* name) { return metadata_.integer(name, 0, INT32_MAX); };
    const auto bos = id("tokenizer.ggml.bos_token_id"), eos = id("tokenizer.ggml.eos_token_id"),
               eot = id("tokenizer.ggml.eot_token_id");
    config_["bos_token_id"] = bos ? ordered_json(*bos) : ordered_json(nullptr);
    ordered_json ends = ordered_json::array();
    if (eos) ends.push_back(*eos);
    if (eot && eot != eos) ends.push_back(*eot);
    config_["eos_token_id"] = ends.empty() ? ordered_json(nullptr) : ends;
  }

  // "GGUF: 61 x F32, 210 x Q4_1"
  std::string stored_types() const {
    std::map<std::string, int> count;
    for (const auto& [name, tensor] : gguf_.tensors) ++count[tensor.block->name];
    std::string text;
    for (const auto& [type, tensors] : count)
      text += fmt::format("{} {} x {}", text.empty() ? "GGUF:" : ",", tensors, type);
    return text;
  }

  const GgufHeader& gguf_;
  const GgufMetadata& metadata_;
  ordered_json config_;
  std::set<std::string> used_;
  int64_t head_dim_ = 0;
};

}  // namespace

std::string gguf_config_json(const GgufHeader& gguf, std::vector<std::string>& notes) {
  ConfigMaker maker(gguf);
  const std::string text = maker.make().dump(2) + "\n";
  const std::vector<std::string> unknown = maker.unknown_keys();
  if (!unknown.empty())
    notes.push_back(fmt::format("{}: unknown keys are ignored: {}", gguf.metadata.path(),
                                shown_names(unknown)));
  return text;
}

}  // namespace model
