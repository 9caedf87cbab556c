// Rules between keys, checked after all layers have merged.
#pragma once

#include <set>
#include <string>

#include "trainer/config/config.h"

namespace trainer {

// Receives problems with a dotted key ("data_stages.0.name"); drops those of refused keys.
class ProblemSink {
 public:
  virtual ~ProblemSink() = default;
  virtual void add(const std::string& key, const std::string& expected, const std::string& found,
                   const std::string& hint) = 0;
  // The value of `key` was wrong by itself: the config holds its default instead.
  virtual bool was_refused(const std::string& key) const = 0;
};

// Gives the keys that were not set the default that depends on other keys.
void resolve_dependent_defaults(Config& config, const std::set<std::string>& given_keys);

void check_config(const Config& config, ProblemSink& problems);

}  // namespace trainer
