#include "model/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "model/hf_json.h"
#include "model/hf_rope.h"
#include "model/limits.h"

namespace model {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{16} << 20;
constexpr int64_t kMaxPairs = int64_t{1} << 22;  // of all layers and kv heads together
constexpr int64_t kMaxKvHeads = 65'536;          // of all layers: each is a list of its own
constexpr int64_t kMaxTokenId = INT32_MAX;

// What the families differ in. Absent values are those of Hugging Face transformers.
struct Family {
  std::string_view model_type;
  std::string_view architecture;
  int64_t max_position_embeddings;
  std::optional<int64_t> sliding_window;  // taken when the key is absent
};
constexpr std::array kFamilies = {
    Family{"llama", "LlamaForCausalLM", 2048, std::nullopt},
    Family{"qwen2", "Qwen2ForCausalLM", 32768, std::nullopt},
    Family{"qwen3", "Qwen3ForCausalLM", 32768, std::nullopt},
    Family{"mistral", "MistralForCausalLM", 131072, 4096},
};

// Keys that change what the model computes, and the value at which they do not. Null, false and
// empty are neutral for all.
struct Unsupported {
  std::string_view key;
  double neutral;
  std::string_view hint;
};
constexpr std::string_view kQuantized = "quantized weights are not read; take the original model";
constexpr std::string_view kDropout = "there is no dropout here: set it to 0";
constexpr std::string_view kExperts = "mixture of experts is not supported";
constexpr std::string_view kLatent = "this model has latent attention already";
constexpr std::string_view kQkNorm = "of the models with QK-norm only Qwen3 is supported";
constexpr std::string_view kRope = "only rotation of whole heads in half-split layout is supported";
constexpr std::string_view kScale = "this change of the Llama architecture is not supported";
constexpr Unsupported kUnsupported[] = {
    {"quantization_config", 0, kQuantized},
    {"compression_config", 0, kQuantized},
    {"attention_dropout", 0, kDropout},
    {"hidden_dropout", 0, kDropout},
    {"resid_pdrop", 0, kDropout},
    {"embd_pdrop", 0, kDropout},
    {"num_experts", 0, kExperts},
    {"num_local_experts", 0, kExperts},
    {"n_routed_experts", 0, kExperts},
    {"num_experts_per_tok", 0, kExperts},
    {"kv_lora_rank", 0, kLatent},
    {"q_lora_rank", 0, kLatent},
    {"mla", 0, kLatent},
    {"use_qk_norm", 0, kQkNorm},
    {"qk_norm", 0, kQkNorm},
    {"qk_layernorm", 0, kQkNorm},
    {"partial_rotary_factor", 1, kRope},
    {"rope_interleaved", 0, kRope},
    {"no_rope_layers", 0, kRope},
    {"no_rope_layer_interval", 0, kRope},
    {"alibi", 0, kRope},
    {"use_sliding_window", 0, "sliding windows are not supported"},
    {"attention_chunk_size", 0, "chunked attention is not supported"},
    {"attn_logit_softcapping", 0, kScale},
    {"final_logit_softcapping", 0, kScale},
    {"clip_qkv", 0, kScale},
    {"query_pre_attn_scalar", 0, kScale},
    {"attention_multiplier", 0, kScale},
    {"embedding_multiplier", 1, kScale},
    {"residual_multiplier", 1, kScale},
    {"logits_scaling", 1, kScale},
    {"logit_scale", 1, kScale},
    {"use_parallel_residual", 0, kScale},
    {"is_encoder_decoder", 0, kScale},
    {"add_cross_attention", 0, kScale},
};

// Keys that cannot change the results of this program, and those of converted models, which
// hf_mla_config.h reads.
constexpr std::string_view kHarmless[] = {
    "RoPE",
    "SVD",
    "_attn_implementation",
    "_name_or_path",
    "architectures",
    "bad_words_ids",
    "dequantized_from",
    "dtype",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "kept_pairs",
    "label2id",
    "max_window_layers",
    "mha2mla",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
};

constexpr const char* kFamilyNames = "llama, qwen2, qwen3 or mistral";

const Family& read_family(JsonObject& json) {
  static const std::map<std::string_view, std::string_view> hints = {
      {"qwen3_moe", kExperts},
      {"qwen2_moe", kExperts},
      {"mixtral", kExperts},
      {"deepseek_v2", kLatent},
      {"deepseek_v3", kLatent},
      {"smollm3", "SmolLM3 has layers without RoPE, which are not supported"},
  };
  const std::optional<std::string> type = json.optional_string("model_type");
  if (!type) json.fail("model_type", kFamilyNames, "nothing");
  const auto family = std::ranges::find(kFamilies, *type, &Family::model_type);
  if (family == kFamilies.end()) {
    const auto hint = hints.find(*type);
    json.fail("model_type", kFamilyNames, *type,
              hint == hints.end() ? "" : std::string(hint->second));
  }
  if (const nlohmann::json* names = json.find("architectures"))
    if (*names != nlohmann::json::array({family->architecture}))
      json.fail("architectures", fmt::format("[\"{}\"]", family->architecture), shown(*names));
  return *family;
}

void refuse_unsupported(JsonObject& json) {
  for (const Unsupported& u : kUnsupported) {
    const nlohmann::json* value = json.find(std::string(u.key));
    if (value == nullptr) continue;
    const bool neutral = (value->is_boolean() && !value->get<bool>()) ||
                         (value->is_structured() && value->empty()) ||
                         (value->is_number() && value->get<double>() == u.neutral);
    if (!neutral)
      json.fail(std::string(u.key), fmt::format("{} or nothing", u.neutral), shown(*value),
                std::string(u.hint));
  }
  const std::string activation = json.optional_string("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish")
    json.fail("hidden_act", "silu", activation, "other activations are not supported");
}

// Windows and layer types that would hide keys from a query.
void refuse_windows(JsonObject& json, const Family& family, const LlamaConfig& config) {
  const bool absent = !json.value().contains("sliding_window");
  std::optional<int64_t> window = json.optional_integer("sliding_window", 0, INT64_MAX);
  if (absent) window = family.sliding_window;
  // Qwen2 files carry a window that use_sliding_window: false switches off; Llama has none.
  if (family.model_type == "mistral" && window && *window < config.max_position_embeddings)
    json.fail(
        "sliding_window",
        fmt::format("null or at least max_position_embeddings {}", config.max_position_embeddings),
        absent ? fmt::format("nothing, which means {}", *window) : std::to_string(*window),
        "sliding windows are not supported");
  const nlohmann::json* types = json.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || types->size() != static_cast<size_t>(config.num_hidden_layers))
    json.fail("layer_types", fmt::format("a list of {} names", config.num_hidden_layers),
              shown(*types));
  for (const nlohmann::json& type : *types)
    if (type != "full_attention")
      json.fail("layer_types", "full_attention in every layer", shown(type),
                "sliding windows and other layer types are not supported");
}

void read_sizes(JsonObject& json, const Family& family, LlamaConfig& c) {
  c.vocab_size = json.integer("vocab_size", 1, kMaxExtent);
  c.hidden_size = json.integer("hidden_size", 1, kMaxExtent);
  c.intermediate_size = json.integer("intermediate_size", 1, kMaxExtent);
  c.num_hidden_layers = json.integer("num_hidden_layers", 1, kMaxLayers);
  c.num_attention_heads = json.integer("num_attention_heads", 1, kMaxExtent);
  // Llama's absent value is that of MHA; the others have one of their own, better not guessed.
  c.num_key_value_heads = family.model_type == "llama"
                              ? json.optional_integer("num_key_value_heads", 1, kMaxExtent)
                                    .value_or(c.num_attention_heads)
                              : json.integer("num_key_value_heads", 1, kMaxExtent);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    json.fail("num_key_value_heads", fmt::format("a divisor of {} heads", c.num_attention_heads),
              std::to_string(c.num_key_value_heads));
  if (family.model_type == "qwen3") {
    c.head_dim = json.integer("head_dim", 1, kMaxExtent);  // has a value of its own when absent
  } else if (const auto head_dim = json.optional_integer("head_dim", 1, kMaxExtent)) {
    c.head_dim = *head_dim;
  } else {
    if (c.hidden_size % c.num_attention_heads != 0)
      json.fail("hidden_size", fmt::format("a multiple of {} heads", c.num_attention_heads),
                std::to_string(c.hidden_size), "or give head_dim");
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
  if (c.head_dim % 2 != 0)
    json.fail("head_dim", "an even number, for RoPE", std::to_string(c.head_dim));
  if (c.num_attention_heads * c.head_dim > kMaxExtent)
    json.fail("num_attention_heads * head_dim", fmt::format("at most {}", kMaxExtent),
              fmt::format("{} * {}", c.num_attention_heads, c.head_dim));
  if (c.num_hidden_layers * c.num_key_value_heads > kMaxKvHeads)
    json.fail("num_hidden_layers * num_key_value_heads", fmt::format("at most {}", kMaxKvHeads),
              fmt::format("{} * {}", c.num_hidden_layers, c.num_key_value_heads));
  if (c.num_hidden_layers * c.num_key_value_heads * c.pairs() > kMaxPairs)
    json.fail("num_hidden_layers * num_key_value_heads * head_dim",
              fmt::format("at most {}", 2 * kMaxPairs),
              fmt::format("{} * {} * {}", c.num_hidden_layers, c.num_key_value_heads, c.head_dim));
  c.max_position_embeddings = json.optional_integer("max_position_embeddings", 1, kMaxPosition)
                                  .value_or(family.max_position_embeddings);
}

void read_token_ids(const std::string& path, JsonObject& json, LlamaConfig& c) {
  c.bos_token_id = json.optional_integer("bos_token_id", 0, kMaxTokenId);
  json.find("eos_token_id");
  c.eos_token_ids = read_eos_token_ids(path, json.value());
  if (c.model_type.starts_with("qwen")) return;  // has no ids of its own when the keys are absent
  if (!json.value().contains("bos_token_id")) c.bos_token_id = 1;
  if (!json.value().contains("eos_token_id")) c.eos_token_ids = {2};
}

}  // namespace

std::vector<int64_t> read_eos_token_ids(const std::string& path, const nlohmann::json& object) {
  const auto found = object.find("eos_token_id");
  if (found == object.end() || found->is_null()) return {};
  const nlohmann::json list = found->is_array() ? *found : nlohmann::json::array({*found});
  constexpr size_t kMostIds = 256;
  if (list.size() > kMostIds)
    core::fail(core::ExitCode::kBadData, {.path = path,
                                          .field = "eos_token_id",
                                          .expected = fmt::format("at most {} ids", kMostIds),
                                          .found = std::to_string(list.size())});
  std::vector<int64_t> ids;
  for (const nlohmann::json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId))
      core::fail(core::ExitCode::kBadData, {.path = path,
                                            .field = "eos_token_id",
                                            .expected = "a token id, a list of them, or null",
                                            .found = shown(*found)});
    if (std::ranges::find(ids, id.get<int64_t>()) == ids.end()) ids.push_back(id.get<int64_t>());
  }
  return ids;
}

LlamaConfig read_hf_config(const std::filesystem::path& config_json,
                           std::vector<std::string>* ignored_keys) {
  return parse_hf_config(config_json.string(), core::read_text(config_json, kMaxFileBytes),
                         ignored_keys);
}

LlamaConfig parse_hf_config(const std::string& path, const std::string& text,
                            std::vector<std::string>* ignored_keys) {
  const nlohmann::json document = core::parse_json(path, text);
  JsonObject json(path, "", document);
  const Family& family = read_family(json);
  refuse_unsupported(json);
  LlamaConfig c;
  c.model_type = family.model_type;
  read_sizes(json, family, c);
  refuse_windows(json, family, c);
  c.rms_norm_eps = json.optional_number("rms_norm_eps", 1e-12, 0.1).value_or(c.rms_norm_eps);
  c.tie_word_embeddings = json.boolean("tie_word_embeddings", false);
  if (c.model_type == "llama" || c.model_type == "qwen3")
    c.qkv_bias = c.output_bias = json.boolean("attention_bias", false);
  if (c.model_type == "llama") c.mlp_bias = json.boolean("mlp_bias", false);
  if (c.model_type == "qwen2") c.qkv_bias = true;  // not a key: it is the architecture
  c.qk_norm = c.model_type == "qwen3";             // nor is this
  c.rope = read_rope(path, json, c.max_position_embeddings);
  read_token_ids(path, json, c);
  if (ignored_keys == nullptr) return c;
  for (const auto& [key, value] : document.items())
    if (!json.used().contains(key) && std::ranges::find(kHarmless, key) == std::end(kHarmless))
      ignored_keys->push_back(key);
  return c;
}

}  // namespace model
