#include "trainer/models/calibration.h"

#include "trainer/models/streamed_pass.h"

namespace trainer {

CalibrationRun calibrate(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                         int64_t batch) {
  model::Calibration calibration(weights.spec());
  const auto groups = window_groups(sets, weights.spec().config.hidden_size, batch);
  StreamedPass pass(weights, sets, ag::DType::f32, "calibrate", groups.size());
  for (const WindowGroup& group : groups) pass.run(group, calibration.observer());
  pass.finish();
  return {calibration.pair_norms(), calibration.tokens()};
}

model::PairNorms equal_pair_norms(const model::LlamaConfig& config) {
  const int64_t pairs = config.num_hidden_layers * config.pairs();
  return {
      .heads = config.num_attention_heads,
      .kv_heads = config.num_key_value_heads,
      .pairs = config.pairs(),
      .query = std::vector<double>(static_cast<size_t>(pairs * config.num_attention_heads), 1.0),
      .key = std::vector<double>(static_cast<size_t>(pairs * config.num_key_value_heads), 1.0)};
}

}  // namespace trainer
