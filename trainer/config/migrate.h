// Configurations of other programs as ours: nanotron's YAML, and those of the public MHA2MLA code
// (its first generation: run, RoPE and SVD in a file each, or nanotron's YAML; its second: one flat
// file).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace trainer {

struct MigrationFile {
  std::filesystem::path path;
  std::string text;
};

struct Migration {
  std::string yaml;                  // the three lists as comments, then the configuration
  std::vector<std::string> changed;  // another name, value or default
  std::vector<std::string> dropped;  // means nothing here, and changes nothing
  std::vector<std::string> lost;     // cannot be carried over: the run differs
};

// The files belong to one run. `overrides` ("key=value", our keys) win over what the files say, and
// supply what they lack. The result is a configuration that parse_config() accepts; relative paths
// stay as they are. Throws kBadConfig with file, line and column of what is wrong.
Migration migrate_configs(const std::vector<MigrationFile>& files,
                          const std::vector<std::string>& overrides);

}  // namespace trainer
