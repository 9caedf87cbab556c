#include "trainer/calibration.h"

#include <algorithm>

#include "core/error.h"
#include "core/progress.h"
#include "core/stop.h"
#include "trainer/id_source.h"

namespace trainer {

CalibrationRun calibrate(const model::Model& model, const std::vector<WindowSource>& sets,
                         int64_t batch) {
  if (batch < 1)
    core::fail(core::ExitCode::kUsage,
               {.field = "--batch", .expected = "at least 1", .found = std::to_string(batch)});
  model::Llama llama(model, {});
  model::Calibration calibration(llama);
  core::Progress progress("calibrate", static_cast<uint64_t>(total_windows(sets)), "windows");
  uint64_t done = 0;
  for (const WindowSource& set : sets) {
    for (int64_t w = 0; w < set.count; w += batch) {
      core::throw_if_stopping();
      const int64_t n = std::min(batch, set.count - w);
      calibration.add(read_windows(set, w, n), n);
      progress.update(done += static_cast<uint64_t>(n));
    }
  }
  progress.finish();
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
