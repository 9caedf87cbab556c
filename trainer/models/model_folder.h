// The MODEL argument of every verb: a Hugging Face folder, a .gguf file, a native model folder, a
// checkpoint, or a run (its newest valid checkpoint). Native and checkpoint hold each parameter as
// a dataset of its path, and `kept_pairs`, a uint8 mask [L, G, P]; everything else about the shape
// follows from the datasets and config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/weight_reader.h"
#include "trainer/checkpoint/state_registry.h"
#include "trainer/files/companion.h"
#include "trainer/files/manifest.h"

namespace trainer {

enum class ModelKind { hugging_face, gguf, native, checkpoint, run };

struct ModelFiles {
  ModelKind kind = ModelKind::hugging_face;
  std::filesystem::path folder;       // where the files are: of a run, its checkpoint; or the .gguf
  std::vector<Companion> companions;  // config.json, tokenizer.json, ...
  std::string hash;                   // model_hash()
  std::vector<std::string> notes;     // odd but harmless: one line each, to be shown
};

struct LoadedModel : ModelFiles {
  model::Model model;
};

// A model that stays where it is. Of a .gguf file and of a public MHA2MLA folder the weights are in
// memory all the same.
struct OpenedModel : ModelFiles {
  std::unique_ptr<model::WeightReader> weights;
};

// By its name, NAME.gguf, and not a folder.
bool is_gguf_file(const std::filesystem::path& path);

// Ids at which generation stops: those of config.json, then the others of generation_config.json.
std::vector<int64_t> generation_eos(const LoadedModel& model);

// Throws kMissingInput, listing what was looked for, when `path` is none of the five; kBadData for
// one that is damaged; kNoValidCheckpoint for a run without a valid checkpoint. Changes nothing on
// the disk.
LoadedModel load_model(const std::filesystem::path& path);
// The same, without keeping a weight; each has been read once, for the hash, and found whole.
OpenedModel stream_model(const std::filesystem::path& path);

// The weights of a native model folder or checkpoint, one at a time: `tensors` is its manifest's
// list. Requires: the folder was verified.
std::unique_ptr<model::WeightReader> state_reader(
    const std::filesystem::path& folder, const std::map<std::string, TensorEntry>& tensors);

// Writes a native model folder with these companions, config.json among them, whole or not at all.
// A `path` that exists is refused (kRunLocked). Returns the hash of its manifest.
std::string save_model(const std::filesystem::path& path, const model::Model& model,
                       const std::vector<Companion>& companions,
                       const nlohmann::json& provenance = nlohmann::json::object());
// The same one tensor at a time. `check` is FolderContents::check. Requires: no tensor of `weights`
// fails to load.
std::string save_model(const std::filesystem::path& path, model::WeightReader& weights,
                       const std::vector<Companion>& companions,
                       const std::function<void(const std::filesystem::path&, Manifest&)>& check);
// The same with those of a folder.
std::string save_model(const std::filesystem::path& path, const model::Model& model,
                       const std::filesystem::path& source_folder,
                       const nlohmann::json& provenance = nlohmann::json::object());

// The parameters, live, under their paths, and this make a checkpoint a MODEL.
void register_kept_pairs(StateRegistry& registry, const model::ModelSpec& spec);

// Of every parameter's path, dtype, shape and bytes, and of the kept pairs: the same in whichever
// folder the model is stored.
std::string model_hash(const model::Model& model);
std::string model_hash(model::WeightReader& weights);
// Of the folder that save_model() makes, but for the manifest and the companions.
uint64_t stored_bytes(const model::WeightReader& weights);

// [L, G, P], 1 where the pair keeps its rotation.
std::vector<uint8_t> kept_pairs_mask(const model::ModelSpec& spec);

}  // namespace trainer
