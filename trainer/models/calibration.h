// The calibration pass of `calibrate`, `convert` and `train`.
#pragma once

#include <cstdint>
#include <vector>

#include "model/calibrate.h"
#include "model/weight_reader.h"
#include "trainer/models/evaluate.h"

namespace trainer {

struct CalibrationRun {
  model::PairNorms norms;
  int64_t tokens = 0;
};

// In float32, `batch` (at least 1) windows at once. Throws kBadConfig for a converted model.
CalibrationRun calibrate(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                         int64_t batch);

// Norms of the right sizes and equal values, for checks that come before any data is read.
model::PairNorms equal_pair_norms(const model::LlamaConfig& config);

}  // namespace trainer
