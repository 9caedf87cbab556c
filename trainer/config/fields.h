// What a configuration key is. Each section of config.h lists its keys once, in fields(); that list
// drives loading, dumping, the documented defaults, the comparison of two configurations and the
// hints for unknown keys.
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace trainer {

// What a changed value means for a run that is resumed.
enum class Effect {
  kTrajectory,  // other numbers: refused
  kReported,    // allowed, told to the user
  kFree,        // allowed, not worth a word
};

enum class PathBase {
  kNotAPath,
  kConfigFile,        // relative to the folder of the configuration file
  kWorkingDirectory,  // relative to where the program is started
};

struct Key {
  const char* name;
  const char* help;  // with the unit
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool exclude_min = false;
  bool exclude_max = false;
  std::vector<std::string> choices = {};
  PathBase path = PathBase::kNotAPath;
  Effect effect = Effect::kTrajectory;
  bool has_default = true;  // false: required, or the default depends on other keys
};

struct AnyVisitor {
  template <class T>
  void operator()(T&, const Key&) const {}
};

template <class T>
concept Section = requires(T& section, AnyVisitor visit) {
  T::fields(section, visit);
};

}  // namespace trainer
