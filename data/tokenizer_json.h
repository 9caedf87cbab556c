// A value inside tokenizer.json that knows its file and path, so that every refusal names both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace data {

// Components after one another can each double a text. More than this is no tokenizer but an
// attack.
inline constexpr size_t kMaxComponents = 64;
// The longest list of nodes: that of the added tokens. A node takes a hundred times the memory that
// an element of the file does.
inline constexpr size_t kMaxItems = 65'536;
// Names of the file in messages and paths are cut to this many bytes.
inline constexpr size_t kMaxQuoted = 80;

class JsonNode {
 public:
  // Requires: `value` outlives the node and every node derived from it.
  JsonNode(const nlohmann::json& value, std::string file, std::string path = {});

  const nlohmann::json& value() const { return *value_; }
  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }

  // Members of an object. at() refuses an absent key; find() gives nothing for absent or null.
  JsonNode at(const std::string& key) const;
  std::optional<JsonNode> find(const std::string& key) const;

  // The value as the named kind; refused otherwise.
  const std::string& string() const;
  bool boolean() const;
  uint64_t integer(uint64_t max) const;                        // 0 <= value <= max
  std::vector<JsonNode> items(size_t most = kMaxItems) const;  // refuses more than `most`

  bool boolean(const std::string& key, bool when_absent) const;
  // Member `type` of a component.
  const std::string& type() const { return at("type").string(); }
  // Refuses an object with any other key: an option nobody reads would be ignored in silence.
  void allow_keys(std::initializer_list<const char*> keys) const;

  // Throws kBadData: file, path, expected, and this value (or `found`).
  [[noreturn]] void refuse(const std::string& expected) const;
  [[noreturn]] void refuse(const std::string& expected, const std::string& found) const;

 private:
  JsonNode child(const nlohmann::json& value, const std::string& suffix) const;

  const nlohmann::json* value_;
  std::string file_, path_;
};

// `text` quoted, escaped to ASCII and cut to a length that fits one line.
std::string quote(const std::string& text);

}  // namespace data
