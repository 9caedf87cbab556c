#include <nlohmann/json.hpp>

#include "trainer/preflight.h"
#include "trainer/training_run.h"

namespace trainer {

nlohmann::json run_train(const TrainOptions& options, Session& session) {
  Config config;
  session.comm.run_agreed([&] { config = load_config(options.config, options.overrides); });
  nlohmann::json plan;
  session.comm.run_agreed([&] {
    if (session.comm.rank() == 0) plan = preflight(config, session.comm.size());
  });
  if (options.dry_run) {
    session.say("configuration, model and data are fine; nothing was started");
    return plan;
  }
  return TrainingRun(config, options, session).execute();
}

}  // namespace trainer
