// The configuration of a training run. Values merge in the order defaults < file < key=value
// overrides and are checked only then, all errors at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/sections.h"

namespace trainer {

namespace fs = std::filesystem;

struct Config {
  GeneralConfig general;
  ModelConfig model;
  std::optional<MlaConfig> mla;  // absent: train the model as it is
  std::vector<DataStageConfig> data_stages;
  ValidationConfig validation;
  TokensConfig tokens;
  OptimizerConfig optimizer;
  ParallelismConfig parallelism;
  CheckpointsConfig checkpoints;
  WatchdogConfig watchdog;
  LoggingConfig logging;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.general, Key{.name = "general", .help = "names and places"});
    f(s.model, Key{.name = "model", .help = "what is trained"});
    f(s.mla,
      Key{.name = "mla", .help = "conversion to MLA; leave out to train the model as it is"});
    f(s.data_stages, Key{.name = "data_stages", .help = "one mixture after the other"});
    f(s.validation, Key{.name = "validation", .help = "loss on held-out shards"});
    f(s.tokens, Key{.name = "tokens", .help = "batches in sequences, lengths in tokens"});
    f(s.optimizer, Key{.name = "optimizer", .help = "AdamW and its schedule"});
    f(s.parallelism, Key{.name = "parallelism", .help = "ranks are those of mpirun"});
    f(s.checkpoints, Key{.name = "checkpoints", .help = "in steps"});
    f(s.watchdog,
      Key{.name = "watchdog", .help = "seconds after which a rank without progress ends the run"});
    f(s.logging, Key{.name = "logging", .help = "in steps"});
  }
  bool operator==(const Config&) const = default;

  // Micro-batches of an update, over all ranks.
  int64_t micro_batches() const { return tokens.global_batch_size / tokens.micro_batch_size; }
};

// Overrides that another file asks for: paths in them are relative to its folder.
struct FileOverrides {
  std::vector<std::string> texts;
  fs::path folder;
};

// An override is "key.of.section=value", the value being YAML; paths in it are relative to the
// working directory. Those of `first` come before. Throws kMissingInput (no such file) or
// kBadConfig with every error on a line of its own and a closing count. All paths of the result are
// absolute.
Config load_config(const fs::path& path, const std::vector<std::string>& overrides = {},
                   const FileOverrides& first = {});

// The same from text; `name` is shown in errors, its folder is the base of relative paths.
Config parse_config(std::string_view text, const fs::path& name,
                    const std::vector<std::string>& overrides = {},
                    const FileOverrides& first = {});

// What is legal but hardly meant: one line each, without a trailing newline.
std::vector<std::string> config_warnings(const Config& config);

// YAML with every value explicit; load(dump(c)) == c, from any folder.
std::string dump_resolved(const Config& config);

// YAML of all keys with their defaults, each with its help as a trailing comment.
std::string defaults_yaml();

// "key: old -> new" for each key whose change would alter the trajectory / is worth telling. Of
// paths only the last name counts: content is compared by the hashes of the files themselves.
std::vector<std::string> incompatible_changes(const Config& saved, const Config& now);
std::vector<std::string> reported_changes(const Config& saved, const Config& now);

// All that either of them compares, as text: equal for configurations between which there is no
// change to refuse or to tell, wherever their files are.
std::string identity_of(const Config& config);

}  // namespace trainer
