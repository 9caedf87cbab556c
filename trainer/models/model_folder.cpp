#include "trainer/models/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "autograd/core/pool.h"
#include "core/error.h"
#include "core/hash.h"
#include "model/gguf_import.h"
#include "model/hf_config.h"
#include "model/hf_import.h"
#include "trainer/checkpoint/checkpoint.h"

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

using TensorEntries = std::map<std::string, TensorEntry>;

// The structure of a folder of state, from the names and shapes in it.
class SpecReader {
 public:
  SpecReader(const fs::path& folder, const TensorEntries& tensors)
      : folder_(folder), tensors_(tensors) {}

  model::ModelSpec read() {
    const model::LlamaConfig config = model::read_hf_config(folder_ / kConfigName);
    model::ModelSpec spec{config, {}};
    std::map<std::string, ag::Shape> shapes;
    for (const auto& [name, entry] : tensors_)
      if (is_parameter(name)) shapes.emplace(name, shape_of(name, entry));
    read_kept_pairs(config, spec.attention);
    for (size_t layer = 0; layer < spec.attention.size(); ++layer)
      find_latent(model::layer_prefix(static_cast<int64_t>(layer)) + "attn.", shapes,
                  spec.attention[layer]);
    model::check_shapes(spec, shapes, folder_);
    return spec;
  }

 private:
  ag::Shape shape_of(const std::string& name, const TensorEntry& entry) const {
    if (entry.dtype != name_of(H5Type::f32) && entry.dtype != name_of(H5Type::bf16))
      core::fail(ExitCode::kBadData, {.path = folder_ / entry.file,
                                      .place = name,
                                      .field = "dtype",
                                      .expected = "float32 or bfloat16",
                                      .found = entry.dtype});
    return make_shape(entry.shape);
  }

  void read_kept_pairs(const model::LlamaConfig& config,
                       std::vector<model::AttentionSpec>& attention) {
    const auto entry = tensors_.find(kKeptPairs);
    const auto refuse = [&](const std::string& found) {
      core::fail(ExitCode::kBadData,
                 {.path = folder_,
                  .place = kKeptPairs,
                  .field = "dataset",
                  .expected = "uint8 " + to_string(mask_shape(config)) + " of 0 and 1",
                  .found = found});
    };
    if (entry == tensors_.end()) refuse("nothing");
    const H5Reader file(folder_ / entry->second.file);
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
  static void find_latent(const std::string& prefix, const std::map<std::string, ag::Shape>& shapes,
                          model::AttentionSpec& spec) {
    for (const auto& [name, method] : {std::pair{"kv_down.weight", model::LatentMethod::joint},
                                       std::pair{"v_down.weight", model::LatentMethod::split}}) {
      const auto down = shapes.find(prefix + name);
      if (down == shapes.end()) continue;
      spec.method = method;
      spec.latent_dims = down->second[0];
      return;
    }
  }

  const fs::path& folder_;
  const TensorEntries& tensors_;
};

class StateReader : public model::WeightReader {
 public:
  StateReader(const fs::path& folder, TensorEntries tensors)
      : WeightReader(SpecReader(folder, tensors).read()),
        folder_(folder),
        tensors_(std::move(tensors)) {}

  ag::DType dtype(const std::string& path) const override {
    return tensors_.at(path).dtype == name_of(H5Type::f32) ? ag::DType::f32 : ag::DType::bf16;
  }
  ag::Tensor load(const std::string& path) override {
    const std::string& file = tensors_.at(path).file;
    return readers_.try_emplace(file, folder_ / file).first->second.read_tensor(path);
  }

 private:
  fs::path folder_;
  TensorEntries tensors_;
  std::map<std::string, H5Reader> readers_;  // by file
};

// Requires: the folder was verified.
OpenedModel open_state_folder(const fs::path& folder, const Manifest& manifest, ModelKind kind) {
  OpenedModel opened;
  opened.kind = kind;
  opened.folder = folder;
  opened.weights = state_reader(folder, manifest.tensors);
  return opened;
}

OpenedModel open_manifest_folder(const fs::path& path) {
  const Manifest manifest = verify_folder(path, Depth::full);
  const bool checkpoint =
      !manifest.tensors.empty() && manifest.tensors.begin()->second.file.starts_with("state-");
  return open_state_folder(path, manifest, checkpoint ? ModelKind::checkpoint : ModelKind::native);
}

OpenedModel open_run(const fs::path& path) {
  const auto valid = newest_valid(path / "checkpoints", Invalid::leave);
  if (!valid)
    core::fail(ExitCode::kMissingInput, {.path = path / "checkpoints",
                                         .field = "MODEL",
                                         .expected = "a checkpoint",
                                         .found = "none yet",
                                         .hint = "train until the first checkpoint is saved"});
  OpenedModel opened = open_state_folder(valid->path, valid->manifest, ModelKind::run);
  opened.notes = valid->warnings;
  return opened;
}

OpenedModel open_hugging_face(const fs::path& path) {
  OpenedModel opened;
  opened.weights = model::open_hf(path, &opened.notes);
  opened.folder = path;
  return opened;
}

OpenedModel open_gguf(const fs::path& path) {
  model::GgufModel gguf = model::import_gguf(path);
  OpenedModel opened;
  opened.weights = std::make_unique<model::MemoryReader>(std::move(gguf.model));
  opened.kind = ModelKind::gguf;
  opened.folder = path;
  opened.companions = {{kConfigName, std::move(gguf.config_json)}};
  opened.notes = std::move(gguf.notes);
  if (!gguf.tokenizer.tokenizer_json.empty()) {
    opened.companions.emplace_back("tokenizer.json", std::move(gguf.tokenizer.tokenizer_json));
    opened.companions.emplace_back("tokenizer_config.json",
                                   std::move(gguf.tokenizer.tokenizer_config_json));
  }
  return opened;
}

OpenedModel open_any(const fs::path& path) {
  std::error_code error;
  if (is_gguf_file(path)) return open_gguf(path);
  if (fs::exists(path / kManifestName, error)) return open_manifest_folder(path);
  if (fs::is_directory(path / "checkpoints", error)) return open_run(path);
  if (fs::exists(path / kConfigName, error)) return open_hugging_face(path);
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

OpenedModel open_with_companions(const fs::path& path) {
  OpenedModel opened = open_any(path);
  if (opened.kind != ModelKind::gguf) opened.companions = companions_of(opened.folder);
  return opened;
}

// Parameters, loaded when they are asked for, and the kept pairs (`mask` is their memory);
// ascending by name.
std::vector<H5Source> streamed_sources(model::WeightReader& weights,
                                       const std::vector<uint8_t>& mask) {
  std::vector<H5Source> sources;
  for (const model::ParameterShape& p : model::parameter_shapes(weights.spec()))
    sources.push_back({.name = p.path,
                       .shape = p.shape,
                       .type = h5_type_of(weights.dtype(p.path)),
                       .data = nullptr,
                       .load = [&weights, path = p.path] { return weights.load(path); }});
  sources.push_back({kKeptPairs, mask_shape(weights.spec().config), H5Type::u8, mask.data()});
  std::ranges::sort(sources, {}, &H5Source::name);
  return sources;
}

// One whose companions have a config.json.
FolderContents model_contents(const fs::path& path, std::vector<H5Source> sources,
                              const std::vector<Companion>& companions) {
  if (find_companion(companions, kConfigName) == nullptr)
    core::fail(ExitCode::kMissingInput, {.path = path,
                                         .field = kConfigName,
                                         .expected = "in the folder of the source",
                                         .found = "nothing"});
  FolderContents contents{.tag = "model",
                          .prefix = "model",
                          .sources = std::move(sources),
                          .companions = companions,
                          .manifest = {}};
  contents.manifest.provenance = basic_provenance();
  return contents;
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

OpenedModel stream_model(const fs::path& path) {
  OpenedModel opened = open_with_companions(path);
  opened.hash = model_hash(*opened.weights);
  ag::Pool::release_cached();  // what one reading of all tensors has left
  return opened;
}

LoadedModel load_model(const fs::path& path) {
  OpenedModel opened = open_with_companions(path);
  LoadedModel loaded{std::move(static_cast<ModelFiles&>(opened)), load_all(*opened.weights)};
  loaded.hash = model_hash(loaded.model);
  return loaded;
}

std::unique_ptr<model::WeightReader> state_reader(const fs::path& folder,
                                                  const TensorEntries& tensors) {
  return std::make_unique<StateReader>(folder, tensors);
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

void register_kept_pairs(StateRegistry& registry, const model::ModelSpec& spec) {
  registry.add_constant(kKeptPairs, mask_shape(spec.config), kept_pairs_mask(spec));
}

std::string model_hash(const model::Model& model) {
  model::MemoryReader reader(model);
  return model_hash(reader);
}

std::string model_hash(model::WeightReader& weights) {
  const std::vector<uint8_t> mask = kept_pairs_mask(weights.spec());
  core::Hasher hasher;
  for (const H5Source& source : streamed_sources(weights, mask)) {
    const std::string label =
        fmt::format("{} {} {}\n", source.name, name_of(source.type), to_string(source.shape));
    hasher.update(label.data(), label.size());
    const ag::Tensor loaded = source.load ? source.load() : ag::Tensor();
    hasher.update(source.load ? loaded.view().data : source.data, source.bytes());
  }
  return hasher.hex();
}

uint64_t stored_bytes(const model::WeightReader& weights) {
  uint64_t bytes = static_cast<uint64_t>(mask_shape(weights.spec().config).numel());
  for (const model::ParameterShape& p : model::parameter_shapes(weights.spec()))
    bytes += static_cast<uint64_t>(p.shape.numel() * ag::size_of(weights.dtype(p.path)));
  return bytes;
}

std::string save_model(const fs::path& path, const model::Model& model,
                       const fs::path& source_folder, const nlohmann::json& provenance) {
  return save_model(path, model, companions_of(source_folder), provenance);
}

std::string save_model(const fs::path& path, const model::Model& model,
                       const std::vector<Companion>& companions, const nlohmann::json& provenance) {
  model::check_weights(model.spec, model.weights, path);
  model::MemoryReader reader(model);
  return save_model(path, reader, companions, [&](const fs::path&, Manifest& manifest) {
    manifest.provenance.update(provenance);
  });
}

std::string save_model(const fs::path& path, model::WeightReader& weights,
                       const std::vector<Companion>& companions,
                       const std::function<void(const fs::path&, Manifest&)>& check) {
  const std::vector<uint8_t> mask = kept_pairs_mask(weights.spec());
  FolderContents contents = model_contents(path, streamed_sources(weights, mask), companions);
  contents.check = check;
  return write_folder(path, std::move(contents), IfExists::refuse);
}

}  // namespace trainer
