#include "trainer/config/config.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "trainer/config/migrate.h"
#include "trainer/run/run_folder.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

nlohmann::json migrate(const std::vector<std::string>& arguments, Session& session) {
  std::vector<MigrationFile> files;
  std::vector<std::string> overrides;
  for (const std::string& argument : arguments) {
    if (argument.find('=') != std::string::npos && !fs::exists(argument))
      overrides.push_back(argument);
    else
      files.push_back({argument, core::read_text(argument, uint64_t{1} << 20)});
  }
  if (files.empty())
    core::fail(core::ExitCode::kUsage, {.path = "mha2mla config",
                                        .field = "--migrate",
                                        .expected = "a file",
                                        .found = "only key=value"});
  Migration migration = migrate_configs(files, overrides);
  for (const std::string& line : migration.lost) session.warn("not carried over: " + line);
  if (session.json)
    return {{"yaml", migration.yaml},
            {"changed", migration.changed},
            {"dropped", migration.dropped},
            {"not_carried_over", migration.lost}};
  migration.yaml.pop_back();
  session.say(migration.yaml);
  return nlohmann::json::object();
}

}  // namespace

nlohmann::json run_config(const ConfigOptions& options, Session& session) {
  if (!options.migrate.empty()) return migrate(options.migrate, session);
  if (!options.defaults && options.config.empty())
    core::fail(core::ExitCode::kUsage, {.path = "mha2mla config",
                                        .field = "option",
                                        .expected = "--defaults, --migrate or a configuration",
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
