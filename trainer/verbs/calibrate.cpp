// calibrate: one pass over the windows, pair norms of queries and keys -> statistics file.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainer/models/calibration.h"
#include "trainer/models/id_source.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {

nlohmann::json run_calibrate(const CalibrateOptions& options, Session& session) {
  const OpenedModel source = open_streamed(options.model, session);
  const std::vector<WindowSource> sets =
      open_windows(options.source, source.weights->spec().config);
  warn_of_length(sets, source.weights->spec().config, session);
  const CalibrationRun run = calibrate(*source.weights, sets, options.batch);
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
