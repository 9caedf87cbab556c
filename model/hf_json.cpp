#include "model/hf_json.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"

namespace model {

std::string shown(const nlohmann::json& value) {
  constexpr size_t kMost = 200;
  const std::string text = value.dump();
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

JsonObject::JsonObject(std::string path, std::string name, const nlohmann::json& value)
    : path_(std::move(path)), name_(std::move(name)), value_(value) {
  if (!value.is_object())
    core::fail(core::ExitCode::kBadData,
               {.path = path_, .field = name_, .expected = "an object", .found = shown(value)});
}

void JsonObject::fail(const std::string& key, const std::string& expected, const std::string& found,
                      const std::string& hint) const {
  core::fail(core::ExitCode::kBadData, {.path = path_,
                                        .field = name_.empty() ? key : name_ + "." + key,
                                        .expected = expected,
                                        .found = found,
                                        .hint = hint});
}

const nlohmann::json* JsonObject::find(const std::string& key) {
  used_.insert(key);
  const auto it = value_.find(key);
  return it == value_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> JsonObject::optional_integer(const std::string& key, int64_t least,
                                                    int64_t most) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) &&
                    value->get<int64_t>() >= least && value->get<int64_t>() <= most;
  if (!fits) fail(key, fmt::format("an integer from {} to {}", least, most), shown(*value));
  return value->get<int64_t>();
}

int64_t JsonObject::integer(const std::string& key, int64_t least, int64_t most) {
  const std::optional<int64_t> value = optional_integer(key, least, most);
  if (!value)
    fail(key, fmt::format("an integer from {} to {}", least, most),
         value_.contains(key) ? "null" : "nothing");
  return *value;
}

std::optional<double> JsonObject::optional_number(const std::string& key, double least,
                                                  double most) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits =
      value->is_number() && value->get<double>() >= least && value->get<double>() <= most;
  if (!fits) fail(key, fmt::format("a number from {} to {}", least, most), shown(*value));
  return value->get<double>();
}

double JsonObject::number(const std::string& key, double least, double most) {
  const std::optional<double> value = optional_number(key, least, most);
  if (!value)
    fail(key, fmt::format("a number from {} to {}", least, most),
         value_.contains(key) ? "null" : "nothing");
  return *value;
}

bool JsonObject::boolean(const std::string& key, bool absent) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) fail(key, "true or false", shown(*value));
  return value->get<bool>();
}

std::optional<std::string> JsonObject::optional_string(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "a string", shown(*value));
  return value->get<std::string>();
}

}  // namespace model
