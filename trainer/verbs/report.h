// A verb's result for people: the JSON object as indented lines, arrays of objects as tables.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trainer {

// Keeps the order in which a report was written down.
using Report = nlohmann::ordered_json;

// Sizes (keys that end in "bytes") get a readable form beside the number.
std::string format_report(const Report& report);

}  // namespace trainer
