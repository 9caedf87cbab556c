#include "trainer/config/tree.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "trainer/config/scalars.h"

namespace trainer {

void ConfigTree::insert(const std::string& dotted_key, const std::string& yaml) {
  Node* node = &root_;
  for (size_t begin = 0; begin <= dotted_key.size();) {
    const size_t end = std::min(dotted_key.find('.', begin), dotted_key.size());
    const std::string name = dotted_key.substr(begin, end - begin);
    const auto found = std::find_if(node->children.begin(), node->children.end(),
                                    [&](const Node& child) { return child.name == name; });
    node =
        found != node->children.end() ? &*found : &node->children.emplace_back(Node{.name = name});
    begin = end + 1;
  }
  node->value = yaml;
}

void ConfigTree::write(const Node& node, const std::string& key, size_t indent, std::string& text) {
  for (const Node& child : node.children) {
    const std::string path = key.empty() ? child.name : key + "." + child.name;
    text += fmt::format("{:{}}{}:", "", indent, child.name);
    if (child.children.empty()) {
      text += fmt::format(" {}\n", child.value);
      continue;
    }
    text += "\n";
    if (parse_integer(child.children[0].name))
      write_list(child, path, indent, text);
    else
      write(child, path, indent + 2, text);
  }
}

void ConfigTree::write_list(const Node& list, const std::string& key, size_t indent,
                            std::string& text) {
  for (size_t i = 0; i < list.children.size(); ++i) {
    const auto item = std::find_if(list.children.begin(), list.children.end(),
                                   [&](const Node& c) { return c.name == std::to_string(i); });
    if (item == list.children.end())
      core::fail(core::ExitCode::kBadConfig,
                 {.field = key,
                  .expected = fmt::format("items 0 to {}", list.children.size() - 1),
                  .found = fmt::format("none of index {}", i)});
    const size_t start = text.size();
    write(*item, key, indent + 4, text);
    if (text.size() == start)
      core::fail(
          core::ExitCode::kBadConfig,
          {.field = fmt::format("{}.{}", key, i), .expected = "keys below it", .found = "a value"});
    text[start + indent + 2] = '-';
  }
}

std::string ConfigTree::yaml() const {
  std::string text;
  write(root_, "", 0, text);
  return text;
}

}  // namespace trainer
