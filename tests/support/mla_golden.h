// The conversions of mla_golden.{json,safetensors}: NAME = <strategy>.r<pairs>.<method>.c<dims per
// kv head>, where 2-norm-sum is 2-norm with the score sum.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/calibrate.h"
#include "model/convert.h"
#include "model/hf_import.h"
#include "model/llama.h"
#include "tests/support/closeness.h"
#include "tests/support/fixture.h"

namespace test_support {

struct MlaVariant {
  std::string name;
  model::ConversionOptions options;
  double loss = 0;             // of the golden file, on input_ids
  int64_t cache_elements = 0;  // per token and layer
};

inline ag::Tensor mla_golden(const std::string& fixture, const std::string& tensor) {
  return golden(fixture, tensor, "mla_golden.safetensors");
}

inline bool has_mla_golden(const std::string& fixture, const std::string& tensor) {
  return model::SafetensorsFile(fixture_path(fixture) / "mla_golden.safetensors").contains(tensor);
}

inline std::vector<MlaVariant> mla_variants(const std::string& fixture) {
  std::vector<MlaVariant> variants;
  const nlohmann::json file = core::read_json(fixture_path(fixture) / "mla_golden.json");
  for (const auto& [name, entry] : file.at("variants").items()) {
    MlaVariant v{.name = name, .options = {}};
    v.options.rope = {model::rope_strategy_from(entry.at("strategy")), entry.at("keep_pairs"), 0};
    v.options.score = model::rope_score_from(entry.at("score"));
    v.options.method = model::latent_method_from(entry.at("method"));
    v.options.latent_dims_per_kv_head = entry.at("rank_per_head");
    v.loss = entry.at("loss");
    v.cache_elements = entry.at("cache_values_per_token_per_layer");
    variants.push_back(v);
  }
  return variants;
}

inline ag::Tensor flat(const ag::Tensor& ids) { return ids.reshaped({ids.numel()}); }

// Pair norms over calibration_ids, the forward pass computed in `compute`.
inline model::PairNorms calibrated(const model::Model& source, const std::string& fixture,
                                   ag::DType compute) {
  model::Llama llama(source, {.compute = compute});
  model::Calibration calibration(source.spec);
  const ag::Tensor ids = mla_golden(fixture, "calibration_ids");
  ag::Tape tape(ag::Tape::Mode::kOff);
  llama.hidden(tape, flat(ids), ids.rows(), nullptr, calibration.observer());
  return calibration.pair_norms();
}

// Mean cross-entropy over the B x (S - 1) shifted targets, as the golden files define it.
struct ShiftedIds {
  ag::Tensor inputs, targets;
  int64_t batch;
  explicit ShiftedIds(const ag::Tensor& ids) : batch(ids.rows()) {
    const int64_t s = ids.cols();
    const std::vector<int32_t> all = ids.to_host<int32_t>();
    std::vector<int32_t> x, y;
    for (auto row = all.begin(); row != all.end(); row += s) {
      x.insert(x.end(), row, row + s - 1);
      y.insert(y.end(), row + 1, row + s);
    }
    inputs = ag::Tensor::from_host<int32_t>({static_cast<int64_t>(x.size())}, x);
    targets = ag::Tensor::from_host<int32_t>({static_cast<int64_t>(y.size())}, y);
  }
  double count() const { return static_cast<double>(targets.numel()); }
  double mean_loss(model::Llama& llama) const {
    ag::Tape tape(ag::Tape::Mode::kOff);
    return llama.loss(tape, inputs, targets, batch).data.to_host<double>()[0] / count();
  }
};

inline auto mla_fixtures() {
  return testing::Values("llama-mha", "llama-gqa-tied", "llama-headdim-bias", "llama-rope-llama3",
                         "qwen2", "mistral");
}

// Test names may hold no '-'.
inline std::string fixture_test_name(const testing::TestParamInfo<std::string>& fixture) {
  std::string name = fixture.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace test_support
