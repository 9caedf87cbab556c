#include <nlohmann/json.hpp>

#include "trainer/training_run.h"
#include "trainer/verbs/plan.h"

namespace trainer {

nlohmann::json run_train(const TrainOptions& options, Session& session) {
  Config config;
  session.comm.run_agreed([&] { config = load_config(options.config, options.overrides); });
  nlohmann::json plan;
  session.comm.run_agreed([&] {
    if (session.comm.rank() == 0) plan = plan_of(options.config, config, session.comm.size());
  });
  if (options.dry_run) {
    session.say("configuration, model and data are fine; nothing was started");
    return plan;
  }
  return TrainingRun(config, options, session).execute();
}

}  // namespace trainer
