// Typed, bounded access to the keys of one JSON object; errors name file, key, expected and found.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

namespace model {

class JsonObject {
 public:
  // `name` is the key under which the object lies, empty at the top; `path` the file.
  // Throws kBadData if `value` is no object. Keeps a reference to it.
  JsonObject(std::string path, std::string name, const nlohmann::json& value);

  // Null and absent are the same: nullptr.
  const nlohmann::json* find(const std::string& key);
  int64_t integer(const std::string& key, int64_t least, int64_t most);
  std::optional<int64_t> optional_integer(const std::string& key, int64_t least, int64_t most);
  // least <= value <= most.
  double number(const std::string& key, double least, double most);
  std::optional<double> optional_number(const std::string& key, double least, double most);
  bool boolean(const std::string& key, bool absent);
  std::optional<std::string> optional_string(const std::string& key);

  const nlohmann::json& value() const { return value_; }
  // Keys that were asked for.
  const std::set<std::string>& used() const { return used_; }
  [[noreturn]] void fail(const std::string& key, const std::string& expected,
                         const std::string& found, const std::string& hint = "") const;

 private:
  std::string path_, name_;
  const nlohmann::json& value_;
  std::set<std::string> used_;
};

// The value as compact JSON, cut at 200 bytes.
std::string shown(const nlohmann::json& value);

}  // namespace model
