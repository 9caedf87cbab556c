#include "data/tokenizer_template.h"

#include <fmt/format.h>

namespace data {
namespace {

using FindToken = TokenizerTemplate::FindToken;

// special_tokens entry: {"id": NAME, "ids": [...], "tokens": [...]} -> ids, each that of its token.
std::vector<uint32_t> parse_special(const JsonNode& node, const FindToken& find_token) {
  node.allow_keys({"id", "ids", "tokens"});
  const std::vector<JsonNode> ids = node.at("ids").items(), tokens = node.at("tokens").items();
  if (ids.empty() || ids.size() != tokens.size())
    node.refuse("as many ids as tokens, at least one",
                fmt::format("{} ids, {} tokens", ids.size(), tokens.size()));
  std::vector<uint32_t> result;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<uint32_t> known = find_token(tokens[i].string());
    if (!known) tokens[i].refuse("a token of the vocabulary");
    if (ids[i].integer(UINT32_MAX) != *known)
      ids[i].refuse(fmt::format("{}, the id of {}", *known, quote(tokens[i].string())));
    result.push_back(*known);
  }
  return result;
}

void apply_template(const JsonNode& node, const FindToken& find_token, TokenizerTemplate& result) {
  node.allow_keys({"type", "single", "pair", "special_tokens"});
  std::vector<uint32_t> before, after;
  std::string left, right;
  bool seen_text = false;
  for (const JsonNode& piece : node.at("single").items()) {
    piece.allow_keys({"SpecialToken", "Sequence"});
    if (const auto sequence = piece.find("Sequence")) {
      if (seen_text || sequence->at("id").string() != "A")
        sequence->at("id").refuse("the text \"A\", once");
      seen_text = true;
      continue;
    }
    const JsonNode name = piece.at("SpecialToken").at("id");
    const auto special = node.at("special_tokens").find(name.string());
    if (!special) name.refuse("a token described in special_tokens");
    for (const uint32_t id : parse_special(*special, find_token))
      (seen_text ? after : before).push_back(id);
    if (seen_text) {
      right.append(1, ' ').append(name.string());
    } else {
      left.append(name.string()).append(1, ' ');
    }
  }
  if (!seen_text) node.at("single").refuse("the text \"A\", once", "no Sequence");
  result.before.insert(result.before.begin(), before.begin(), before.end());
  result.after.insert(result.after.end(), after.begin(), after.end());
  result.description = left + result.description + right;
}

void apply(const JsonNode& node, const FindToken& find_token, TokenizerTemplate& result) {
  const std::string& type = node.type();
  if (type == "Sequence") {
    node.allow_keys({"type", "processors"});
    for (const JsonNode& item : node.at("processors").items()) apply(item, find_token, result);
  } else if (type == "ByteLevel") {
    node.allow_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "TemplateProcessing") {
    apply_template(node, find_token, result);
  } else {
    node.at("type").refuse(
        "one of the supported post-processors Sequence, ByteLevel, TemplateProcessing");
  }
}

}  // namespace

TokenizerTemplate TokenizerTemplate::parse(const std::optional<JsonNode>& node,
                                           const FindToken& find_token) {
  TokenizerTemplate result;
  if (node) apply(*node, find_token, result);
  return result;
}

}  // namespace data
