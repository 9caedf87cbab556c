#include <nlohmann/json.hpp>

#include "trainer/config/config.h"
#include "trainer/run/plan.h"
#include "trainer/verbs/report.h"
#include "trainer/verbs/verbs.h"

namespace trainer {

nlohmann::json run_validate(const ValidateOptions& options, Session& session) {
  const Config config = load_config(options.config, options.overrides);
  const nlohmann::json report =
      plan_of(options.config, config, static_cast<int>(options.ranks), PlanFor::kReport);
  if (!session.json) {
    session.say(format_report(report));
    session.say("valid: nothing was started");
  }
  return report;
}

}  // namespace trainer
