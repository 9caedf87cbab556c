// What a conversion that streams is going to need: known from the shapes, before it starts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/weight_reader.h"
#include "trainer/models/evaluate.h"

namespace trainer {

// Bytes that are there at once. Each phase stands alone: what it held is given back.
struct ConversionMemory {
  uint64_t layer_pass = 0;  // one layer in float32, all hidden states, the activations of one batch
  uint64_t head_pass = 0;   // the output matrices of both models, and logits of some rows
  uint64_t factoring = 0;   // one layer's K and V in float64, their factors, what LAPACK needs
  uint64_t runtime = 0;     // what is there before the first tensor

  uint64_t peak() const;
};

struct ConversionPlan {
  ConversionMemory memory;
  uint64_t source_bytes = 0, disk_bytes = 0;  // of the weights, read and written
  int64_t tokens = 0;                         // that go through both models
  // On this machine: the order of magnitude. Reading and writing come on top.
  double seconds = 0;
};

// `batch` windows go through a layer at once. Measures the machine with one small product.
// Requires: `target` is a converted_spec() of the source's.
ConversionPlan plan_conversion(model::WeightReader& source, const model::ModelSpec& target,
                               const std::vector<WindowSource>& sets, int64_t batch);

nlohmann::json to_json(const ConversionPlan& plan);
std::string to_text(const ConversionPlan& plan);  // in one line

}  // namespace trainer
