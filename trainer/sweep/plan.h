// From the file of a sweep to the list of its trials, each a complete configuration with an id and
// a folder of its own. The same file gives the same list on every rank and at every start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "trainer/config/config.h"
#include "trainer/sweep/config.h"

namespace trainer {

struct SweepAxis {
  std::string name;  // short: of ids and tables
  std::string key;   // of the configuration; sweep.budget.cache_ratio for several budgets
  std::vector<SweepValue> values;
};

struct Trial {
  // Settings and the first 6 digits of the hash of identity_of(config):
  // "rope=2-norm,method=joint-1f3a9c".
  std::string id;
  bool baseline = false;                                     // the unconverted model
  std::vector<std::pair<std::string, SweepValue>> settings;  // axis name -> value
  Config config;  // general.{output_dir, project, run} are this trial's folder
  int64_t cache_before = 0, cache_after = 0;  // elements per token

  int64_t tokens() const;  // that it trains on
};

struct SweepPlan {
  std::string name;
  std::filesystem::path file, folder;  // <output_dir>/<project>/<name>
  std::string max_time;                // of the whole sweep
  int64_t ranks_per_trial = 1;
  std::vector<SweepAxis> axes;
  std::vector<Trial> trials;
};

// What the model at model.init_from is: its spec, of which only the shapes are looked at.
using ReadSpec = std::function<model::ModelSpec(const std::string& init_from)>;

// `overrides` are those of the command line, for every trial. Throws kBadConfig: every error once,
// those of a value with its place in the file of the sweep.
SweepPlan plan_sweep(const SweepConfig& sweep, const std::vector<std::string>& overrides,
                     const ReadSpec& read_spec);

// The trials that have all of `only` ("name=value", the name short or dotted; "baseline=true") and
// belong to `shard` ("i/n": every n-th, from the i-th on; empty: all), as indices. Throws kUsage
// for what no trial could have.
std::vector<size_t> select_trials(const SweepPlan& plan, const std::vector<std::string>& only,
                                  const std::string& shard);

}  // namespace trainer
