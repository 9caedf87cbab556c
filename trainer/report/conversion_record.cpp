#include "trainer/report/conversion_record.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "model/limits.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/files/h5.h"
#include "trainer/files/lenient_json.h"
#include "trainer/files/manifest.h"

namespace trainer {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Of all layers and kv heads together, as of a model (model/hf_config.cpp).
constexpr int64_t kMostPairs = int64_t{1} << 22;

bool holds_state(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kManifestName, error);
}

// The folder whose manifest tells most of the conversion; empty if there is none.
fs::path folder_of_conversion(const fs::path& path) {
  for (const fs::path& folder : {path, path / "converted"})
    if (holds_state(folder)) return folder;
  std::error_code error;
  if (!fs::is_directory(path / "checkpoints", error)) return {};
  fs::path newest;
  int64_t step = -1;
  for (const CheckpointPath& checkpoint : find_checkpoints(path / "checkpoints"))
    if (checkpoint.step > step && holds_state(checkpoint.path)) {
      step = checkpoint.step;
      newest = checkpoint.path;
    }
  return newest;
}

std::vector<double> numbers(const json& array) {
  std::vector<double> values;
  if (array.is_array())
    for (const json& value : array)
      values.push_back(value.is_number() ? value.get<double>() : ConversionRecord::kUnknown);
  return values;
}

void read_layers(const json& layers, ConversionRecord& record) {
  if (!layers.is_array()) return;
  for (size_t l = 0; l < layers.size(); ++l) {
    record.relative_error.push_back(number_at(layers[l], {"relative_error"}));
    const json& spectra = value_at(layers[l], {"spectra"});
    if (!spectra.is_array()) continue;
    for (const json& spectrum : spectra) {
      SpectrumRecord s{.layer = l,
                       .matrix = text_at(spectrum, {"matrix"}),
                       .kept = number_at(spectrum, {"kept"}),
                       .index = numbers(value_at(spectrum, {"index"})),
                       .value = numbers(value_at(spectrum, {"singular_values"}))};
      if (s.index.size() == s.value.size()) record.spectra.push_back(std::move(s));
    }
  }
}

void read_provenance(const json& provenance, ConversionRecord& record) {
  const json& how = value_at(provenance, {"conversion"});
  const json& parity = value_at(provenance, {"parity"});
  record.strategy = text_at(how, {"strategy"});
  record.method = text_at(how, {"method"});
  record.pairs_per_head = number_at(how, {"rope_pairs_per_head"});
  record.latent_dims_per_kv_head = number_at(how, {"latent_dims_per_kv_head"});
  record.loss_before = number_at(parity, {"loss_before"});
  record.loss_after = number_at(parity, {"loss_after"});
  record.protocol = text_at(parity, {"loss_protocol"});
  record.cache_before = number_at(parity, {"cache_bytes_per_token", "before"});
  record.cache_after = number_at(parity, {"cache_bytes_per_token", "after"});
  record.parameters_before = number_at(parity, {"parameters", "before"});
  record.parameters_after = number_at(parity, {"parameters", "after"});
  record.source_validation = number_at(provenance, {"source_validation", "mean_nll"});
  read_layers(value_at(parity, {"layers"}), record);
}

// HDF5 sees no byte before the hash of its file was right.
void read_kept_pairs(const fs::path& folder, const Manifest& manifest, ConversionRecord& record) {
  const auto entry = manifest.tensors.find("kept_pairs");
  if (entry == manifest.tensors.end()) return;
  const fs::path file = folder / entry->second.file;
  const auto recorded = manifest.files.find(entry->second.file);
  if (recorded == manifest.files.end() || core::hash_file_hex(file) != recorded->second.hash)
    core::fail(core::ExitCode::kBadData, {.path = file,
                                          .field = "xxh3_128",
                                          .expected = "the hash in MANIFEST.json",
                                          .found = "another"});
  const H5Reader reader(file);
  const H5Dataset& mask = reader.find("kept_pairs");
  if (mask.type != H5Type::u8 || mask.shape.rank() != 3)
    core::fail(core::ExitCode::kBadData, {.path = file,
                                          .place = "kept_pairs",
                                          .field = "shape",
                                          .expected = "uint8 [layers, kv heads, pairs]",
                                          .found = to_string(mask.shape)});
  if (mask.shape[0] > model::kMaxLayers || mask.shape.numel() > kMostPairs)
    core::fail(core::ExitCode::kBadData,
               {.path = file,
                .place = "kept_pairs",
                .field = "shape",
                .expected = fmt::format("at most {} layers and {} pairs of all kv heads",
                                        model::kMaxLayers, kMostPairs),
                .found = to_string(mask.shape)});
  record.kept_pairs.resize(mask.bytes());
  reader.read(mask, record.kept_pairs.data());
  record.layers = mask.shape[0];
  record.kv_heads = mask.shape[1];
  record.pairs = mask.shape[2];
}

}  // namespace

std::optional<ConversionRecord> find_conversion(const fs::path& path,
                                                std::vector<std::string>& notes) {
  ConversionRecord record;
  try {
    const fs::path folder = folder_of_conversion(path);
    if (folder.empty()) return std::nullopt;
    const Manifest manifest = read_manifest(folder);
    read_provenance(manifest.provenance, record);
    read_kept_pairs(folder, manifest, record);
  } catch (const core::Error& error) {
    notes.emplace_back(error.what());
  }
  const bool drops_pairs = std::any_of(record.kept_pairs.begin(), record.kept_pairs.end(),
                                       [](uint8_t k) { return k == 0; });
  if (!drops_pairs && record.relative_error.empty()) return std::nullopt;
  return record;
}

}  // namespace trainer
