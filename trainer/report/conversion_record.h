// What a converted model's folder says of its conversion: MANIFEST.json's provenance and
// kept_pairs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace trainer {

// Singular values of one factored matrix of a layer, and how many of them the latent keeps.
struct SpectrumRecord {
  size_t layer = 0;
  std::string matrix;  // "[K_nope, V]", "K_nope" or "V"
  double kept = 0;
  std::vector<double> index, value;  // index from 1
};

struct ConversionRecord {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  std::string strategy, method;  // empty if not recorded
  double pairs_per_head = kUnknown, latent_dims_per_kv_head = kUnknown;
  double loss_before = kUnknown, loss_after = kUnknown, source_validation = kUnknown;
  std::string protocol;  // of the two losses
  double cache_before = kUnknown, cache_after = kUnknown;
  double parameters_before = kUnknown, parameters_after = kUnknown;
  std::vector<double> relative_error;  // by layer
  std::vector<SpectrumRecord> spectra;
  int64_t layers = 0, kv_heads = 0, pairs = 0;  // of kept_pairs; 0 if it could not be read
  std::vector<uint8_t> kept_pairs;              // [layers, kv_heads, pairs], 1: keeps its rotation
};

// The conversion in `path` (a model folder), `path`/converted, or the newest checkpoint of the run
// `path`; nothing if there is none, or if every pair keeps its rotation and no latent was recorded.
// What cannot be read becomes a note.
std::optional<ConversionRecord> find_conversion(const std::filesystem::path& path,
                                                std::vector<std::string>& notes);

}  // namespace trainer
