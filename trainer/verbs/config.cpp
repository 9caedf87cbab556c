#include "trainer/config.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainer/run_folder.h"
#include "trainer/verbs/verbs.h"

namespace trainer {

nlohmann::json run_config(const ConfigOptions& options, Session& session) {
  if (!options.defaults && options.config.empty())
    core::fail(core::ExitCode::kUsage, {.path = "mha2mla config",
                                        .field = "option",
                                        .expected = "--defaults or a configuration",
                                        .found = "nothing"});
  if (options.defaults) {
    std::string yaml = defaults_yaml();
    if (session.json) return {{"yaml", yaml}};
    yaml.pop_back();
    session.say(yaml);
    return nlohmann::json::object();
  }
  const Config config = load_config(options.config, options.overrides);
  const std::string run_folder = run_path(config.general);
  std::string yaml = dump_resolved(config);
  if (session.json) return {{"yaml", yaml}, {"run_folder", run_folder}};
  yaml.pop_back();
  session.say(options.run_folder ? run_folder : yaml);
  return nlohmann::json::object();
}

}  // namespace trainer
