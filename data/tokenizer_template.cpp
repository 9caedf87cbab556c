#include "data/tokenizer_template.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"

namespace data {
namespace {

using FindToken = TokenizerTemplate::FindToken;

// Around every document; real templates have one or two.
constexpr size_t kMaxTemplateIds = 1024;

struct TemplateReader {
  const FindToken& find_token;
  TokenizerTemplate result = {};
  size_t components = 0;

  void add(const JsonNode& node);
  void add_template(const JsonNode& node);
  std::vector<uint32_t> read_special(const JsonNode& node, size_t most) const;
};

// special_tokens entry: {"id": NAME, "ids": [...], "tokens": [...]} -> ids, each that of its token.
// The sizes come first: every piece of every template may name the same long entry.
std::vector<uint32_t> TemplateReader::read_special(const JsonNode& node, size_t most) const {
  node.allow_keys({"id", "ids", "tokens"});
  const size_t count = node.at("ids").value().size(), named = node.at("tokens").value().size();
  if (count == 0 || count != named)
    node.refuse("as many ids as tokens, at least one",
                fmt::format("{} ids, {} tokens", count, named));
  if (count > most)
    node.at("ids").refuse(fmt::format("at most {} ids around a document", kMaxTemplateIds), "more");
  const std::vector<JsonNode> ids = node.at("ids").items(most),
                              tokens = node.at("tokens").items(most);
  std::vector<uint32_t> known_ids;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<uint32_t> known = find_token(tokens[i].string());
    if (!known) tokens[i].refuse("a token of the vocabulary");
    if (ids[i].integer(UINT32_MAX) != *known)
      ids[i].refuse(fmt::format("{}, the id of {}", *known, quote(tokens[i].string())));
    known_ids.push_back(*known);
  }
  return known_ids;
}

// A name in the description, which is shown on terminals.
std::string described(const std::string& name) {
  return name.size() <= kMaxQuoted && core::printable(name) == name ? name : quote(name);
}

void TemplateReader::add_template(const JsonNode& node) {
  node.allow_keys({"type", "single", "pair", "special_tokens"});
  std::vector<uint32_t> before, after;
  std::string left, right;
  bool seen_text = false;
  size_t room = kMaxTemplateIds - result.before.size() - result.after.size();
  for (const JsonNode& piece : node.at("single").items(kMaxTemplateIds + 1)) {
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
    const std::vector<uint32_t> ids = read_special(*special, room);
    room -= ids.size();
    std::vector<uint32_t>& side = seen_text ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
    if (seen_text) {
      right.append(1, ' ').append(described(name.string()));
    } else {
      left.append(described(name.string())).append(1, ' ');
    }
  }
  if (!seen_text) node.at("single").refuse("the text \"A\", once", "no Sequence");
  result.before.insert(result.before.begin(), before.begin(), before.end());
  result.after.insert(result.after.end(), after.begin(), after.end());
  result.description = left + result.description + right;
}

void TemplateReader::add(const JsonNode& node) {
  const std::string& type = node.type();
  if (type == "Sequence") {
    node.allow_keys({"type", "processors"});
    for (const JsonNode& item : node.at("processors").items(kMaxComponents)) add(item);
    return;
  }
  if (++components > kMaxComponents)
    node.refuse(fmt::format("at most {} post-processors", kMaxComponents), "more");
  if (type == "ByteLevel") {
    node.allow_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "TemplateProcessing") {
    add_template(node);
  } else {
    node.at("type").refuse(
        "one of the supported post-processors Sequence, ByteLevel, TemplateProcessing");
  }
}

}  // namespace

TokenizerTemplate TokenizerTemplate::parse(const std::optional<JsonNode>& node,
                                           const FindToken& find_token) {
  TemplateReader reader{find_token};
  if (node) reader.add(*node);
  return std::move(reader.result);
}

}  // namespace data
