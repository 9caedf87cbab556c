// calibrate: one pass over the windows, pair norms of queries and keys -> statistics file.
#include "trainer/verbs/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/progress.h"
#include "trainer/id_source.h"
#include "trainer/verbs/model_argument.h"

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
      const int64_t n = std::min(batch, set.count - w);
      calibration.add(read_windows(set, w, n), n);
      progress.update(done += static_cast<uint64_t>(n));
    }
  }
  progress.finish();
  return {calibration.pair_norms(), calibration.tokens()};
}

nlohmann::json run_calibrate(const CalibrateOptions& options, Session& session) {
  const LoadedModel source = open_model(options.model, session);
  const std::vector<WindowSource> sets = open_windows(options.source, source.model.spec.config);
  const CalibrationRun run = calibrate(source.model, sets, options.batch);
  model::write_statistics(options.out, run.norms, source.hash, run.tokens, describe(sets));
  session.say(fmt::format("{}: pair norms over {} tokens of {}", options.out.string(), run.tokens,
                          describe(sets)));
  return {{"out", options.out.string()},
          {"tokens", run.tokens},
          {"windows", total_windows(sets)},
          {"data", describe(sets)},
          {"model_hash", source.hash}};
}

}  // namespace trainer
