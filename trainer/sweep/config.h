// The file of a sweep: which configuration it starts from, and what it varies.
//   base: tiny.yaml                     relative to the file of the sweep
//   sweep:
//     name: strategies                  folder; default: the name of the file
//     set: {tokens.train_steps: 60}     for every trial
//     grid: {KEY: [VALUES], ...}        cartesian product
//     zip: [{KEY: [VALUES], KEY: [VALUES]}, ...]   lists of one length, taken together
//     exclude: [{KEY: VALUE, ...}, ...] trials that have all of these
//     budget: {cache_ratio: 0.1875}     a number or a list: what may stay of the cache
//     ranks_per_trial: 1
//     baseline: true                    the unconverted model with the same fine-tuning as well
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/yaml.h"

namespace trainer {

struct SweepValue {
  std::string text;
  bool quoted = false;
  Origin origin = {};

  // Two spellings of one value are two values; the configurations that they make are compared.
  bool operator==(const SweepValue& other) const { return text == other.text; }
};

struct SweepSetting {
  std::string key;  // dotted
  SweepValue value;

  // "key=value", as the command line has it.
  std::string override_text() const;
};

struct SweepKey {
  std::string key;
  Origin origin;
  std::vector<SweepValue> values;
};

struct SweepConfig {
  std::filesystem::path path, base;  // absolute
  std::string name;
  std::vector<SweepSetting> set;
  // Keys of one group take their values together: each key of `grid` is a group of its own. In the
  // order of the file; the last one varies fastest. Lists of a group have one length.
  std::vector<std::vector<SweepKey>> groups;
  std::vector<std::vector<SweepSetting>> exclude;
  std::vector<SweepValue> cache_ratios;  // in (0, 1]
  int64_t ranks_per_trial = 1;
  bool baseline = false;
};

// Throws kMissingInput (no such file) or kBadConfig with every error on a line of its own.
SweepConfig load_sweep(const std::filesystem::path& path);
// The same from text; `path` is shown in errors, its folder is the base of relative paths.
SweepConfig parse_sweep(std::string_view text, const std::filesystem::path& path);

}  // namespace trainer
