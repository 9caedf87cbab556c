// Values of JSON that anybody may have written: what is missing or of another type is NaN or empty,
// never an error.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

namespace trainer {

// What lies at a path of keys; null if nothing does.
const nlohmann::json& value_at(const nlohmann::json& from, std::initializer_list<const char*> keys);

// NaN unless a number.
double number_at(const nlohmann::json& from, std::initializer_list<const char*> keys);
// Empty unless a string; cut to 200 bytes.
std::string text_at(const nlohmann::json& from, std::initializer_list<const char*> keys);

}  // namespace trainer
