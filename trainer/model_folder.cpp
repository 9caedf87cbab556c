#include "trainer/model_folder.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "model/gguf_import.h"
#include "model/hf_config.h"
#include "model/hf_import.h"
#include "trainer/checkpoint.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

constexpr char kKeptPairs[] = "kept_pairs";
constexpr char kConfigName[] = "config.json";

ag::Shape mask_shape(const model::LlamaConfig& config) {
  return {config.num_hidden_layers, config.num_key_value_heads, config.pairs()};
}

std::vector<Companion> companions_of(const fs::path& folder) {
  std::vector<Companion> companions;
  for (const std::string& name : model::companion_files(folder))
    companions.emplace_back(folder / name);
  return companions;
}

// Optimizer state and the like live in groups; parameters and the mask at the root.
bool is_parameter(const std::string& name) {
  return name != kKeptPairs && name.find('/') == std::string::npos;
}

class StateFolderReader {
 public:
  StateFolderReader(fs::path folder, const Manifest& manifest)
      : folder_(std::move(folder)), manifest_(manifest) {}

  model::Model read() {
    const model::LlamaConfig config = model::read_hf_config(folder_ / kConfigName);
    model::Model result{{config, {}}, {}};
    for (const auto& [name, entry] : manifest_.tensors)
      if (is_parameter(name)) result.weights.emplace(name, read_weight(name, entry));
    read_kept_pairs(config, result.spec.attention);
    for (size_t layer = 0; layer < result.spec.attention.size(); ++layer)
      find_latent(fmt::format("layers.{}.attn.", layer), result.weights,
                  result.spec.attention[layer]);
    model::check_weights(result.spec, result.weights, folder_);
    return result;
  }

 private:
  const H5Reader& reader(const std::string& file) {
    return readers_.try_emplace(file, folder_ / file).first->second;
  }

  ag::Tensor read_weight(const std::string& name, const TensorEntry& entry) {
    ag::Tensor weight = reader(entry.file).read_tensor(name);
    if (weight.dtype() != ag::DType::f32 && weight.dtype() != ag::DType::bf16)
      core::fail(ExitCode::kBadData, {.path = folder_ / entry.file,
                                      .place = name,
                                      .field = "dtype",
                                      .expected = "float32 or bfloat16",
                                      .found = entry.dtype});
    return weight;
  }

  void read_kept_pairs(const model::LlamaConfig& config,
                       std::vector<model::AttentionSpec>& attention) {
    const auto entry = manifest_.tensors.find(kKeptPairs);
    const auto refuse = [&](const std::string& found) {
      core::fail(ExitCode::kBadData,
                 {.path = folder_,
                  .place = kKeptPairs,
                  .field = "dataset",
                  .expected = "uint8 " + to_string(mask_shape(config)) + " of 0 and 1",
                  .found = found});
    };
    if (entry == manifest_.tensors.end()) refuse("nothing");
    const H5Reader& file = reader(entry->second.file);
    const H5Dataset& dataset = file.find(kKeptPairs);
    if (dataset.type != H5Type::u8 || !(dataset.shape == mask_shape(config)))
      refuse(fmt::format("{} {}", name_of(dataset.type), to_string(dataset.shape)));
    std::vector<uint8_t> mask(dataset.bytes());
    file.read(dataset, mask.data());
    size_t next = 0;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      model::AttentionSpec& spec = attention.emplace_back();
      for (int64_t head = 0; head < config.num_key_value_heads; ++head) {
        auto& pairs = spec.kept_pairs.emplace_back();
        for (int32_t pair = 0; pair < config.pairs(); ++pair) {
          const uint8_t kept = mask[next++];
          if (kept > 1) refuse(std::to_string(kept));
          if (kept == 1) pairs.push_back(pair);
        }
      }
    }
  }

  // Which projections exist says which method it is; their rows say how wide the latent is.
  static void find_latent(const std::string& prefix, const model::Weights& weights,
                          model::AttentionSpec& spec) {
    for (const auto& [name, method] : {std::pair{"kv_down.weight", model::LatentMethod::joint},
                                       std::pair{"v_down.weight", model::LatentMethod::split}}) {
      const auto down = weights.find(prefix + name);
      if (down == weights.end()) continue;
      spec.method = method;
      spec.latent_dims = down->second.shape()[0];
      return;
    }
  }

  fs::path folder_;
  const Manifest& manifest_;
  std::map<std::string, H5Reader> readers_;
};

// Requires: the folder was verified.
LoadedModel load_state_folder(const fs::path& folder, const Manifest& manifest, ModelKind kind) {
  LoadedModel loaded;
  loaded.model = StateFolderReader(folder, manifest).read();
  loaded.kind = kind;
  loaded.folder = folder;
  return loaded;
}

LoadedModel load_manifest_folder(const fs::path& path) {
  const Manifest manifest = verify_folder(path, Depth::full);
  const bool checkpoint =
      !manifest.tensors.empty() && manifest.tensors.begin()->second.file.starts_with("state-");
  return load_state_folder(path, manifest, checkpoint ? ModelKind::checkpoint : ModelKind::native);
}

LoadedModel load_run(const fs::path& path) {
  const auto valid = newest_valid(path / "checkpoints", Invalid::leave);
  if (!valid)
    core::fail(ExitCode::kMissingInput, {.path = path / "checkpoints",
                                         .field = "MODEL",
                                         .expected = "a checkpoint",
                                         .found = "none yet",
                                         .hint = "train until the first checkpoint is saved"});
  LoadedModel loaded = load_state_folder(valid->path, valid->manifest, ModelKind::run);
  loaded.notes = valid->warnings;
  return loaded;
}

LoadedModel load_hugging_face(const fs::path& path) {
  LoadedModel loaded;
  loaded.model = model::import_hf(path, &loaded.notes);
  loaded.folder = path;
  return loaded;
}

LoadedModel load_gguf(const fs::path& path) {
  model::GgufModel gguf = model::import_gguf(path);
  LoadedModel loaded{.model = std::move(gguf.model),
                     .kind = ModelKind::gguf,
                     .folder = path,
                     .companions = {{kConfigName, std::move(gguf.config_json)}},
                     .hash = {},
                     .notes = std::move(gguf.notes)};
  if (!gguf.tokenizer.tokenizer_json.empty()) {
    loaded.companions.emplace_back("tokenizer.json", std::move(gguf.tokenizer.tokenizer_json));
    loaded.companions.emplace_back("tokenizer_config.json",
                                   std::move(gguf.tokenizer.tokenizer_config_json));
  }
  return loaded;
}

LoadedModel load_any(const fs::path& path) {
  std::error_code error;
  if (is_gguf_file(path)) return load_gguf(path);
  if (fs::exists(path / kManifestName, error)) return load_manifest_folder(path);
  if (fs::is_directory(path / "checkpoints", error)) return load_run(path);
  if (fs::exists(path / kConfigName, error)) return load_hugging_face(path);
  core::fail(ExitCode::kMissingInput,
             {.path = path,
              .field = "MODEL",
              .expected = "config.json with *.safetensors (Hugging Face), a .gguf file, "
                          "MANIFEST.json with *.h5 (native model or checkpoint), or checkpoints/ "
                          "(run)",
              .found = fs::is_directory(path, error) ? "a folder with none of them"
                       : fs::exists(path, error)     ? "a file"
                                                     : "nothing",
              .hint = "give the folder that holds the model"});
}

}  // namespace

bool is_gguf_file(const fs::path& path) {
  std::error_code error;
  return path.extension() == ".gguf" && !fs::is_directory(path, error);
}

std::vector<int64_t> generation_eos(const LoadedModel& model) {
  return model.kind == ModelKind::gguf ? model.model.spec.config.eos_token_ids
                                       : model::read_generation_eos(model.folder);
}

LoadedModel load_model(const fs::path& path) {
  LoadedModel loaded = load_any(path);
  if (loaded.kind != ModelKind::gguf) loaded.companions = companions_of(loaded.folder);
  loaded.hash = model_hash(loaded.model);
  return loaded;
}

std::vector<uint8_t> kept_pairs_mask(const model::ModelSpec& spec) {
  std::vector<uint8_t> mask;
  mask.reserve(static_cast<size_t>(mask_shape(spec.config).numel()));
  for (const model::AttentionSpec& layer : spec.attention)
    for (const auto& pairs : layer.kept_pairs) {
      const size_t head = mask.size();
      mask.resize(head + static_cast<size_t>(spec.config.pairs()));
      for (const int32_t pair : pairs) mask[head + static_cast<size_t>(pair)] = 1;
    }
  return mask;
}

void register_model(StateRegistry& registry, const model::Model& model) {
  for (const auto& [path, weight] : model.weights) registry.add_tensor(path, weight);
  register_kept_pairs(registry, model.spec);
}

void register_kept_pairs(StateRegistry& registry, const model::ModelSpec& spec) {
  registry.add_constant(kKeptPairs, mask_shape(spec.config), kept_pairs_mask(spec));
}

std::string model_hash(const model::Model& model) {
  StateRegistry registry;
  register_model(registry, model);
  core::Hasher hasher;
  for (const H5Source& source : registry.sources()) {
    const std::string label =
        fmt::format("{} {} {}\n", source.name, name_of(source.type), to_string(source.shape));
    hasher.update(label.data(), label.size());
    hasher.update(source.data, source.bytes());
  }
  return hasher.hex();
}

std::string save_model(const fs::path& path, const model::Model& model,
                       const fs::path& source_folder, const nlohmann::json& provenance) {
  return save_model(path, model, companions_of(source_folder), provenance);
}

std::string save_model(const fs::path& path, const model::Model& model,
                       const std::vector<Companion>& companions, const nlohmann::json& provenance) {
  model::check_weights(model.spec, model.weights, path);
  StateRegistry registry;
  register_model(registry, model);
  FolderContents contents{.tag = "model",
                          .prefix = "model",
                          .sources = registry.sources(),
                          .companions = companions,
                          .manifest = {}};
  if (find_companion(companions, kConfigName) == nullptr)
    core::fail(ExitCode::kMissingInput, {.path = path,
                                         .field = kConfigName,
                                         .expected = "in the folder of the source",
                                         .found = "nothing"});
  contents.manifest.provenance = basic_provenance();
  contents.manifest.provenance.update(provenance);
  return write_folder(path, std::move(contents), IfExists::refuse);
}

}  // namespace trainer
