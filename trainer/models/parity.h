// What a conversion did to a model: loss before and after on the same windows, cache, parameters,
// and what the truncation lost of each layer's [K_nope, V].
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/convert.h"
#include "trainer/models/evaluate.h"

namespace trainer {

template <class T>
struct BeforeAfter {
  T before{}, after{};
};

struct ParityReport {
  // Empty when no ids were given to measure it on.
  std::optional<BeforeAfter<SetResult>> loss;
  BeforeAfter<int64_t> cache_bytes_per_token;  // all layers, bf16
  BeforeAfter<int64_t> parameters;
  std::vector<model::LayerReport> layers;  // {0, 0} for a layer without a latent
  bool all_pairs_kept = false;
  std::vector<std::string> not_needed;  // options that were given or defaulted but play no role

  // Nothing but the rounding of a float64 SVD was lost in any layer.
  bool truncates_nothing() const;
  // The converted model computes the same function as the source.
  bool is_exact() const { return all_pairs_kept && truncates_nothing(); }
};

// Everything but `loss` and `not_needed`.
ParityReport compare_specs(const model::ModelSpec& source, const model::ModelSpec& target,
                           const std::vector<model::LayerReport>& layers);

// Mean over the targets of all sets, computed in float32, `batch` windows at once.
SetResult loss_of(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                  int64_t batch, const std::string& title);

nlohmann::json to_json(const ParityReport& report);
std::string to_text(const ParityReport& report);  // a table for people

}  // namespace trainer
