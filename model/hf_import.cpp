#include "model/hf_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ranges>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/json.h"
#include "model/hf_config.h"
#include "model/hf_json.h"
#include "model/hf_layout.h"
#include "model/hf_mla_config.h"
#include "model/hf_names.h"
#include "model/hf_shards.h"

namespace model {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr const char* kHead = "lm_head.weight";
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

using Tensors = std::map<std::string, const SafetensorsFile*>;
using Names = std::vector<std::string>;

// Why names may differ, if it can be told.
std::string hint_for(const Names& missing, const Names& extra) {
  constexpr size_t kLooked = 10;  // at so many of each: a prefix is that of all
  for (const std::string& name : extra | std::views::take(kLooked)) {
    if (name.ends_with("q_norm.weight") || name.ends_with("k_norm.weight"))
      return "these are the weights of a model with QK-norm, which model_type qwen3 says";
    for (const std::string& wanted : missing | std::views::take(kLooked))
      if (name.ends_with(wanted) && name.size() > wanted.size())
        return fmt::format("names carry the prefix \"{}\"; remove it",
                           name.substr(0, name.size() - wanted.size()));
  }
  if (missing.size() == 1 && missing[0] == kHead)
    return "config.json says tie_word_embeddings false; set it to true if they are tied";
  return "config.json and the weights describe different models";
}

// Old checkpoints carry the inverse frequencies as a buffer; they follow from the configuration.
bool is_buffer(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

// A projection without rows, of a public MHA2MLA model that rotates every pair or none.
bool is_empty(const SafetensorsFile& file, const std::string& name) {
  const StoredTensor& stored = file.at(name);
  return stored.begin == stored.end;
}

void check_names(const std::string& folder, const LlamaConfig& config,
                 const std::map<std::string, HfTensor>& wanted, const Tensors& tensors) {
  Names missing, extra;
  for (const auto& [name, parameter] : wanted)
    if (!tensors.contains(name)) missing.push_back(name);
  for (const auto& [name, file] : tensors) {
    const bool tied_head = config.tie_word_embeddings && name == kHead;
    if (!wanted.contains(name) && !tied_head && !is_buffer(name) && !is_empty(*file, name))
      extra.push_back(name);
  }
  if (missing.empty() && extra.empty()) return;
  std::string found;
  if (!missing.empty()) found = "missing " + shown_names(missing);
  if (!extra.empty())
    found.append(found.empty() ? "" : ", ").append("unexpected ").append(shown_names(extra));
  core::fail(ExitCode::kBadData, {.path = folder,
                                  .field = "tensors",
                                  .expected = fmt::format("the {} of config.json", wanted.size()),
                                  .found = found,
                                  .hint = hint_for(missing, extra)});
}

template <class T>
void check_finite(const SafetensorsFile& file, const std::string& name, const ag::Tensor& tensor) {
  const int64_t bad = ag::kernels(tensor.device()).count_nonfinite(tensor);
  if (bad == 0) return;
  const std::vector<T> values = tensor.to_host<T>();
  const auto is_bad = [](T value) { return !std::isfinite(static_cast<float>(value)); };
  core::fail(
      ExitCode::kBadData,
      {.path = file.path().string(),
       .place = name,
       .field = "values",
       .expected = "finite numbers",
       .found = fmt::format("{} NaN or infinite, the first at element {}", bad,
                            std::find_if(values.begin(), values.end(), is_bad) - values.begin())});
}

void check_stored(const SafetensorsFile& file, const HfTensor& wanted) {
  const StoredTensor& stored = file.at(wanted.name);
  const auto refuse = [&](const char* field, const std::string& expected, const std::string& found,
                          const std::string& hint) {
    core::fail(ExitCode::kBadData, {.path = file.path().string(),
                                    .place = wanted.name,
                                    .field = field,
                                    .expected = expected,
                                    .found = found,
                                    .hint = hint});
  };
  if (to_string(stored) != to_string(wanted.shape)) {
    const std::string rule = hf_shape_rule(wanted.path);
    refuse("shape", to_string(wanted.shape) + (rule.empty() ? "" : " = " + rule), to_string(stored),
           "the sizes are those of config.json");
  }
  if (stored.dtype != "F32" && stored.dtype != "BF16" && stored.dtype != "F16")
    refuse("dtype", "F32, BF16 or F16", stored.dtype, "");
}

ag::Tensor load_finite(const SafetensorsFile& file, const std::string& name) {
  const ag::Tensor tensor = file.load(name);
  if (tensor.dtype() == ag::DType::bf16)
    check_finite<ag::bf16>(file, name, tensor);
  else
    check_finite<float>(file, name, tensor);
  return tensor;
}

// Of an unconverted model: each parameter is one stored tensor.
class PlainReader : public WeightReader {
 public:
  PlainReader(ModelSpec spec, HfShards shards, const std::map<std::string, HfTensor>& wanted)
      : WeightReader(std::move(spec)), shards_(std::move(shards)) {
    for (const auto& [name, tensor] : wanted) name_of_.emplace(tensor.path, name);
  }

  ag::DType dtype(const std::string& path) const override {
    return file_of(path).at(name_of_.at(path)).dtype == "BF16" ? ag::DType::bf16 : ag::DType::f32;
  }
  ag::Tensor load(const std::string& path) override {
    return load_finite(file_of(path), name_of_.at(path));
  }

 private:
  const SafetensorsFile& file_of(const std::string& path) const {
    return *shards_.tensors().at(name_of_.at(path));
  }

  HfShards shards_;
  std::map<std::string, std::string> name_of_;  // by path
};

// A tied model may store its head all the same; then both must be one matrix.
void check_tied_head(const Tensors& tensors) {
  const auto head = tensors.find(kHead);
  if (head == tensors.end()) return;
  const std::string embedding = *hf_name_of_path("embed.weight");
  const SafetensorsFile& other = *tensors.at(embedding);
  const SafetensorsFile& file = *head->second;
  const bool equal = file.at(kHead).dtype == other.at(embedding).dtype &&
                     file.at(kHead).shape == other.at(embedding).shape &&
                     std::ranges::equal(file.bytes(kHead), other.bytes(embedding));
  file.release(kHead);
  other.release(embedding);
  if (!equal)
    core::fail(ExitCode::kBadData,
               {.path = file.path().string(),
                .place = kHead,
                .field = "values",
                .expected = "those of " + embedding + ", as config.json ties them",
                .found = "others",
                .hint = "set tie_word_embeddings to false if the head is a matrix of its own"});
}

nlohmann::json read_object(const fs::path& path) {
  nlohmann::json document = core::read_json(path.string(), kMaxConfigBytes);
  const JsonObject check(path.string(), "", document);
  return document;
}

}  // namespace

std::unique_ptr<WeightReader> open_hf(const fs::path& folder, std::vector<std::string>* notes) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    core::fail(ExitCode::kMissingInput, {.path = folder.string(),
                                         .field = "model",
                                         .expected = "a Hugging Face folder",
                                         .found = "no folder"});
  Names ignored_keys, odd;
  const fs::path config_json = folder / "config.json";
  const LlamaConfig config = read_hf_config(config_json, &ignored_keys);
  const std::optional<HfMla> mla =
      read_hf_mla(folder, read_object(config_json), config, &ignored_keys);
  if (mla) std::erase(ignored_keys, "auto_map");  // names the code that says what is read here
  if (!ignored_keys.empty())
    odd.push_back(fmt::format("{}: unknown keys are ignored: {}", config_json.string(),
                              shown_names(ignored_keys)));
  HfShards shards(folder, odd);
  ModelSpec spec = ModelSpec::unconverted(config);
  if (mla) spec.attention = mla->attention;
  if (public_code_scales_otherwise(spec))
    core::fail(ExitCode::kBadData,
               {.path = config_json.string(),
                .field = "attention factor of yarn",
                .expected = "1 in a converted model",
                .found = fmt::format("{:g}", config.rope.attention_factor),
                .hint = "the public code applies the factor only to what rotates"});
  const HfLayout layout = mla ? mla->layout : HfLayout::plain;
  std::map<std::string, HfTensor> wanted;
  for (const HfTensor& t : hf_tensors(spec, layout)) wanted.emplace(t.name, t);
  check_names(folder.string(), config, wanted, shards.tensors());
  if (config.tie_word_embeddings) check_tied_head(shards.tensors());
  for (const auto& [name, tensor] : wanted) check_stored(*shards.tensors().at(name), tensor);
  if (notes != nullptr) notes->insert(notes->end(), odd.begin(), odd.end());
  if (layout == HfLayout::plain)
    return std::make_unique<PlainReader>(std::move(spec), std::move(shards), wanted);
  std::map<std::string, ag::Tensor> stored;
  for (const auto& [name, tensor] : wanted)
    stored.emplace(name, load_finite(*shards.tensors().at(name), name));
  Model model{.spec = spec, .weights = from_hf(spec, layout, stored, folder.string())};
  check_weights(model.spec, model.weights, folder.string());
  return std::make_unique<MemoryReader>(std::move(model));
}

Model import_hf(const fs::path& folder, std::vector<std::string>* notes) {
  return load_all(*open_hf(folder, notes));
}

std::vector<std::string> companion_files(const fs::path& folder) {
  std::vector<std::string> files;
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json", "special_tokens_map.json"}) {
    std::error_code error;
    if (fs::is_regular_file(folder / name, error)) files.emplace_back(name);
  }
  return files;
}

std::vector<int64_t> read_generation_eos(const fs::path& folder) {
  std::vector<int64_t> ids = read_hf_config(folder / "config.json").eos_token_ids;
  const fs::path generation = folder / "generation_config.json";
  std::error_code error;
  if (!fs::exists(generation, error)) return ids;
  for (int64_t id : read_eos_token_ids(generation.string(), read_object(generation)))
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  return ids;
}

}  // namespace model
