#include "model/hf_export.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/json.h"
#include "model/hf_mla_config.h"
#include "model/modeling_text.h"

namespace model {
namespace {

using nlohmann::json;

// Older programs read rope_theta and rope_scaling, newer ones rope_parameters; each takes theta
// 10000 without a word where it misses its own.
void write_both_rope_spellings(json& config, double theta) {
  json newer = json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto block = config.find(key);
    if (block != config.end() && block->is_object()) newer.update(*block);
  }
  newer["rope_theta"] = theta;
  if (const auto legacy = newer.find("type"); legacy != newer.end()) {
    newer["rope_type"] = *legacy;
    newer.erase("type");
  }
  if (!newer.contains("rope_type")) newer["rope_type"] = "default";
  json older = newer;
  older.erase("rope_theta");
  config["rope_theta"] = theta;
  config["rope_scaling"] = newer["rope_type"] == "default" ? json(nullptr) : older;
  config["rope_parameters"] = newer;
}

void turn_mistral_into_llama(json& config, const LlamaConfig& source) {
  config["model_type"] = "llama";
  config["architectures"] = {"LlamaForCausalLM"};
  config["max_position_embeddings"] = source.max_position_embeddings;
  config["attention_bias"] = config["mlp_bias"] = false;
  config.erase("sliding_window");
}

std::string format_config(const Model& model, HfLayout layout, const json& blocks,
                          const std::string& source_config, const std::string& origin) {
  const LlamaConfig& c = model.spec.config;
  json config = core::parse_json(origin + "/config.json", source_config);
  for (const char* key : kHfMlaKeys) config.erase(key);
  config.erase("auto_map");
  if (c.model_type == "mistral" && layout != HfLayout::plain) turn_mistral_into_llama(config, c);
  write_both_rope_spellings(config, c.rope.theta);
  const bool wide = std::ranges::any_of(
      model.weights, [](const auto& entry) { return entry.second.dtype() == ag::DType::f32; });
  config["torch_dtype"] = config["dtype"] = wide ? "float32" : "bfloat16";
  config.update(blocks);
  if (layout != HfLayout::plain) {
    const std::string name = c.model_type == "qwen2" ? "Mha2mlaQwen2" : "Mha2mlaLlama";
    config["auto_map"] = {{"AutoConfig", "modeling_mha2mla." + name + "Config"},
                          {"AutoModelForCausalLM", "modeling_mha2mla." + name + "ForCausalLM"}};
  }
  return config.dump(2) + "\n";
}

}  // namespace

Model with_dtype(const Model& model, std::optional<ag::DType> dtype) {
  Model result = model;
  if (!dtype) return result;
  for (auto& [path, weight] : result.weights) {
    if (weight.dtype() == *dtype) continue;
    ag::Tensor cast = ag::Tensor::empty(weight.shape(), *dtype);
    ag::kernels(weight.device()).cast(cast.view(), weight);
    weight = cast;
  }
  return result;
}

HfFolder hf_folder(const Model& model, HfLayout layout, const std::string& source_config,
                   const std::string& origin) {
  HfMlaDescription description;
  description.blocks = json::object();
  if (layout != HfLayout::plain) {
    description = describe_hf_mla(model.spec, layout, origin);
  } else if (model.spec.is_converted()) {
    core::fail(core::ExitCode::kBadConfig, {.path = origin,
                                            .field = "model",
                                            .expected = "an unconverted one",
                                            .found = "a converted one"});
  }
  HfFolder folder{.tensors = to_hf(model, layout), .files = {}};
  // The code of v2 loads with load_state_dict, which wants the head of a tied model as well.
  if (layout == HfLayout::v2 && model.spec.config.tie_word_embeddings)
    folder.tensors.emplace("lm_head.weight", model.weights.at("embed.weight"));
  folder.files["config.json"] =
      format_config(model, layout, description.blocks, source_config, origin);
  if (layout != HfLayout::plain) folder.files[kModelingFile] = kModelingText;
  if (!description.file_name.empty()) folder.files[description.file_name] = description.file_bytes;
  return folder;
}

}  // namespace model
