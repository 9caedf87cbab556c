// What becomes of each key of nanotron and of the public MHA2MLA code.
#pragma once

#include <span>
#include <string_view>

namespace trainer {

enum class Carry {
  kCopy,         // the value as it is, under our key
  kText,         // the same for names and paths
  kMeaningless,  // nothing here depends on it
  kNeutral,      // nothing, if it has one of the values that mean "not used" or "as here"
  kComputed,     // several keys together make ours: migrate_steps.cpp
};

struct MigrationRule {
  std::string_view theirs;  // dotted; "*" is any index, a final ".*" any key below
  Carry carry;
  std::string_view ours;     // kCopy, kText
  std::string_view why;      // of what is dropped or lost
  std::string_view neutral;  // kNeutral: values with '|' between them; null always is one
};

// In the order of our configuration.
std::span<const MigrationRule> migration_rules();

// The rule of a key; null for one that nobody knows.
const MigrationRule* find_migration_rule(std::string_view theirs);

enum class Dialect { kNanotron, kHuggingFace };

// A value that the other program takes for a key that was left out, where ours takes another.
struct ForeignDefault {
  Dialect dialect;
  std::string_view theirs, ours, value;
};
std::span<const ForeignDefault> foreign_defaults();

}  // namespace trainer
