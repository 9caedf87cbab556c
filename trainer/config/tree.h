// Dotted keys and their values as nested YAML.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace trainer {

class ConfigTree {
 public:
  // `yaml`: the value on one line. Below a key whose first child is an index, children are a list.
  void insert(const std::string& dotted_key, const std::string& yaml);

  // Keys in the order of their insertion, items of a list in that of their indices. Throws
  // kBadConfig for a list that lacks an item.
  std::string yaml() const;

 private:
  struct Node {
    std::string name;
    std::vector<Node> children;
    std::string value;  // of a leaf
  };
  static void write(const Node& node, const std::string& key, size_t indent, std::string& text);
  static void write_list(const Node& list, const std::string& key, size_t indent,
                         std::string& text);

  Node root_;
};

}  // namespace trainer
