// Names that other trainers use for our keys, so that an unknown key can be answered with the right
// one.
#pragma once

#include <string>
#include <string_view>

namespace trainer {

// Advice for a key that is not ours, by its last name; empty if the name means nothing to us.
std::string advice_for_foreign_key(std::string_view name);

// nanotron's keys of a feature we do not have, accepted at the value that means "not used".
bool has_neutral_value(std::string_view dotted_key);

}  // namespace trainer
