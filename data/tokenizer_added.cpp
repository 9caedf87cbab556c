#include "data/tokenizer_added.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "data/utf8.h"

namespace data {
namespace {

constexpr size_t kMaxAdded = 65'536;
// At every byte of a text as many may be compared. Real tokens have fewer than 100.
constexpr size_t kMaxContentBytes = 256;
constexpr size_t kMaxSpelledBytes = size_t{1} << 20;  // of all; a trie has a node for each at most
constexpr uint64_t kMaxId = (uint64_t{1} << 22) - 1;

AddedToken parse_token(const JsonNode& node, const Bpe& model) {
  node.allow_keys({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = static_cast<uint32_t>(node.at("id").integer(kMaxId));
  token.content = node.at("content").string();
  token.single_word = node.boolean("single_word", false);
  token.lstrip = node.boolean("lstrip", false);
  token.rstrip = node.boolean("rstrip", false);
  token.special = node.boolean("special", false);
  token.normalized = node.boolean("normalized", !token.special);
  if (token.content.empty()) node.at("content").refuse("a token that is not empty", "\"\"");
  if (token.content.size() > kMaxContentBytes)
    node.at("content").refuse(fmt::format("at most {} bytes", kMaxContentBytes),
                              std::to_string(token.content.size()));
  const std::optional<uint32_t> in_model = model.token_id(token.content);
  if (in_model && *in_model != token.id)
    node.at("id").refuse(
        fmt::format("{}, the id of {} in model.vocab", *in_model, quote(token.content)));
  const std::string* holder = model.token(token.id);
  if (holder != nullptr && *holder != token.content)
    node.at("id").refuse(
        "an id that model.vocab does not give to another token",
        fmt::format("{} for {}, the id of {}", token.id, quote(token.content), quote(*holder)));
  return token;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word(code_point_at(text, previous_code_point(text, begin)).value)) ||
         (end < text.size() && is_word(code_point_at(text, end).value));
}

size_t white_space_start(std::string_view text, size_t end, size_t floor) {
  while (end > floor) {
    const size_t before = previous_code_point(text, end);
    if (!is_white_space(code_point_at(text, before).value)) break;
    end = before;
  }
  return end;
}

// Bytes of what a finder looks for.
size_t spelled_bytes(const JsonNode& item, const AddedToken& token, const Normalizer& normalizer) {
  if (!token.normalized) return token.content.size();
  size_t budget = kMaxContentBytes;
  try {
    return normalizer(token.content, budget).size();
  } catch (const core::Error&) {  // it does not know what it normalizes
    item.at("content").refuse(
        fmt::format("at most {} bytes when it is normalized", kMaxContentBytes));
  }
}

// The child of that label, or where it belongs.
template <class Children>
auto place_of(Children& children, unsigned char label) {
  return std::lower_bound(children.begin(), children.end(), label,
                          [](const auto& child, unsigned char l) { return child.first < l; });
}

size_t white_space_end(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text, at);
    if (!is_white_space(c.value)) break;
    at += c.length;
  }
  return at;
}

}  // namespace

std::vector<AddedToken> parse_added_tokens(const std::optional<JsonNode>& node, const Bpe& model,
                                           const Normalizer& normalizer) {
  std::vector<AddedToken> tokens;
  if (!node) return tokens;
  if (node->value().size() > kMaxAdded)
    node->refuse(fmt::format("at most {} tokens", kMaxAdded), std::to_string(node->value().size()));
  std::set<std::string> contents;
  std::set<uint32_t> ids;
  size_t spelled = 0;
  for (const JsonNode& item : node->items()) {
    tokens.push_back(parse_token(item, model));
    if (!contents.insert(tokens.back().content).second)
      item.at("content").refuse("a token not added before");
    if (!ids.insert(tokens.back().id).second) item.at("id").refuse("an id not added before");
    spelled += spelled_bytes(item, tokens.back(), normalizer);
    if (spelled > kMaxSpelledBytes)
      node->refuse(fmt::format("at most {} bytes in all tokens together", kMaxSpelledBytes),
                   "more");
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                                   const Normalizer& normalizer)
    : nodes_(1), root_(256, 0) {
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized) continue;
    insert(normalized ? normalizer(token.content) : token.content, token);
  }
  for (const auto& [byte, node] : nodes_.front().children) root_[byte] = node;
}

void AddedTokenFinder::insert(const std::string& pattern, const AddedToken& token) {
  uint32_t node = 0;
  for (const char byte : pattern) {
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      auto& children = nodes_[node].children;
      const auto label = static_cast<unsigned char>(byte);
      children.emplace(place_of(children, label), label, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  // Two tokens may have the same normalized spelling: the first one has it.
  if (node != 0 && nodes_[node].token == nullptr) nodes_[node].token = &token;
}

uint32_t AddedTokenFinder::child(uint32_t node, char byte) const {
  const auto& children = nodes_[node].children;
  const auto label = static_cast<unsigned char>(byte);
  const auto found = place_of(children, label);
  return found != children.end() && found->first == label ? found->second : 0;
}

size_t AddedTokenFinder::longest_match(std::string_view text, size_t at,
                                       const AddedToken*& token) const {
  size_t length = 0;
  uint32_t node = root_[static_cast<unsigned char>(text[at])];
  for (size_t end = at + 1; node != 0; ++end) {
    if (nodes_[node].token != nullptr) {
      token = nodes_[node].token;
      length = end - at;
    }
    if (end == text.size()) break;
    node = child(node, text[end]);
  }
  return length;
}

std::vector<AddedTokenFinder::Segment> AddedTokenFinder::split(std::string_view text) const {
  std::vector<Segment> segments;
  size_t taken = 0;  // text before this belongs to a segment
  const auto add_text = [&](size_t end) {
    if (taken < end) segments.push_back({taken, end, nullptr});
  };
  for (size_t at = 0; at < text.size() && nodes_.size() > 1;) {
    const AddedToken* token = nullptr;
    const size_t length = longest_match(text, at, token);
    if (length == 0) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + length;
    at = end;  // matches do not overlap, even where one is discarded below
    if (token->single_word && touches_word(text, begin, end)) continue;
    if (token->lstrip) begin = white_space_start(text, begin, std::min(taken, begin));
    if (token->rstrip)
      end = white_space_end(text, std::max(end, taken));  // before `taken` all is white space
    add_text(begin);
    segments.push_back({begin, end, token});
    taken = end;
  }
  add_text(text.size());
  return segments;
}

}  // namespace data
