// The calibration pass that `calibrate` and `convert` share.
#pragma once

#include <cstdint>
#include <vector>

#include "model/calibrate.h"
#include "trainer/evaluate.h"

namespace trainer {

struct CalibrationRun {
  model::PairNorms norms;
  int64_t tokens = 0;
};

// In float32, `batch` windows at once. Throws kBadConfig for a converted model.
CalibrationRun calibrate(const model::Model& model, const std::vector<WindowSource>& sets,
                         int64_t batch);

}  // namespace trainer
