#include "data/tokenizer_metaspace.h"

#include "data/utf8.h"

namespace data {

Metaspace Metaspace::parse(const JsonNode& node) {
  // add_prefix_space and str_rep are the spelling of files older than prepend_scheme.
  node.allow_keys(
      {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  Metaspace metaspace;
  metaspace.mark = node.at("replacement").string();
  if (metaspace.mark.empty() || code_point_at(metaspace.mark, 0).length != metaspace.mark.size())
    node.at("replacement").refuse("one character");
  if (const auto str_rep = node.find("str_rep"); str_rep && str_rep->string() != metaspace.mark)
    str_rep->refuse("the same as replacement");
  metaspace.split = node.boolean("split", true);
  const bool prefix = node.boolean("add_prefix_space", true);
  const auto scheme = node.find("prepend_scheme");
  if (!scheme) {
    metaspace.prepend = prefix ? Prepend::kAlways : Prepend::kNever;
    return metaspace;
  }
  const std::string& name = scheme->string();
  if (name == "never") {
    metaspace.prepend = Prepend::kNever;
  } else if (!prefix) {
    scheme->refuse("\"never\" beside add_prefix_space false");
  } else if (name == "first") {
    metaspace.prepend = Prepend::kFirst;
  } else if (name == "always") {
    metaspace.prepend = Prepend::kAlways;
  } else {
    scheme->refuse("always, first or never");
  }
  return metaspace;
}

}  // namespace data
