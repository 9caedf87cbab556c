// The two passes of a conversion over the same windows: the source before it, and what was written.
#pragma once

#include <optional>
#include <vector>

#include "model/calibrate.h"
#include "trainer/models/model_comparison.h"
#include "trainer/models/streamed_pass.h"

namespace trainer {

// Windows that go through a layer at once.
inline constexpr int64_t kConversionBatch = 4;

// What one pass of the source gives.
struct SourcePass {
  std::optional<model::PairNorms> norms;  // when they were wanted
  std::optional<SetResult> loss;          // when it was wanted
  std::vector<PassedWindow> verdict;      // the windows that the verdict is given on
};

SourcePass pass_source(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                       bool with_norms, bool with_loss);

struct ConvertedPass {
  std::optional<SetResult> loss;  // when that of the source was wanted
  Agreement agreement;            // of the source (A) and the converted model
};

// Requires: `before` is pass_source() of `source` and the same sets.
ConvertedPass pass_converted(model::WeightReader& source, const SourcePass& before,
                             model::WeightReader& converted, const std::vector<WindowSource>& sets);

}  // namespace trainer
