#include "trainer/config.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainer/verbs/verbs.h"

namespace trainer {

nlohmann::json run_config(const ConfigOptions& options, Session& session) {
  if (!options.defaults)
    core::fail(core::ExitCode::kUsage, {.path = "mha2mla config",
                                        .field = "option",
                                        .expected = "--defaults",
                                        .found = "nothing"});
  std::string yaml = defaults_yaml();
  if (session.json) return {{"yaml", yaml}};
  if (yaml.ends_with('\n')) yaml.pop_back();
  session.say(yaml);
  return nlohmann::json::object();
}

}  // namespace trainer
