// The hint of a message about a word that nobody knows.
#pragma once

#include <string>
#include <vector>

namespace trainer {

// "did you mean NEAR?" with the nearest candidate, empty if none is near; of a word longer than any
// name only the beginning is compared.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace trainer
