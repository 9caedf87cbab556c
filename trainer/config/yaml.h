// A strict subset of YAML as a tree with positions: one document, mappings, lists and scalars. No
// anchors, aliases, merge keys or tags; no duplicate keys; at most 1 MiB, 32 levels, 20,000 nodes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace trainer {

// Where a value was written: in the file (1-based) or in an override.
struct Origin {
  int line = 0, column = 0;
  // "key=value"; null for the file. Shared: one override may be as many nodes as a file.
  std::shared_ptr<const std::string> override_text = {};

  bool is_override() const { return override_text != nullptr; }
};

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  Origin origin = {};
  std::string text = {};  // of a scalar
  bool quoted = false;
  std::vector<YamlNode> items = {};
  std::vector<YamlEntry> entries;  // keys are unique

  const YamlNode* find(std::string_view key) const;
  YamlNode* find(std::string_view key);
  bool is_null() const { return kind == Kind::kNull; }
};

struct YamlEntry {
  std::string key;
  Origin origin;  // of the key
  YamlNode value;
};

// Collects errors, sorts them by place and throws them together.
class Problems {
 public:
  explicit Problems(std::string path) : path_(std::move(path)) {}

  // Fills in path and place of `fault`. Beyond the first hundred, errors are only counted.
  void add(const Origin& origin, core::Fault fault);
  bool is_full() const { return problems_.size() >= kMaxShown; }
  bool empty() const { return problems_.empty(); }
  [[noreturn]] void fail() const;  // Requires: !empty()
  void fail_if_any() const {
    if (!empty()) fail();
  }

 private:
  static constexpr size_t kMaxShown = 100;
  struct Problem {
    Origin origin;
    std::string line;
  };
  std::string path_;
  std::vector<Problem> problems_;
  size_t n_hidden_ = 0;
};

// Syntax, depth and size stop the parse and throw with what was found so far; the rest is added to
// `problems`. An empty text is a null node.
YamlNode parse_yaml(std::string_view text, Problems& problems);

// The value of "key=value", of which `origin` has the whole.
YamlNode parse_override_value(std::string_view value, const Origin& origin, Problems& problems);

// Text for a message: quoted, shortened, control characters escaped.
std::string quoted_for_message(std::string_view text);

}  // namespace trainer
