// Reading and checking the `model` section of tokenizer.json.
#include <fmt/format.h>

#include "data/bpe.h"
#include "data/utf8.h"

namespace data {
namespace {

constexpr uint64_t kMaxTokens = uint64_t{1} << 22;  // ids and merges; real vocabularies: < 2^19

// "a b" with exactly one space. More would leave open which space separates.
std::pair<std::string, std::string> split_merge(const JsonNode& merge) {
  const std::string& text = merge.string();
  const size_t space = text.find(' ');
  if (space == 0 || space == std::string::npos || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string::npos)
    merge.refuse("two tokens separated by one space");
  return {text.substr(0, space), text.substr(space + 1)};
}

std::string byte_token(unsigned byte) { return fmt::format("<0x{:02X}>", byte); }

void refuse_affix(const JsonNode& model, const char* key) {
  const auto affix = model.find(key);
  if (affix && !affix->string().empty()) affix->refuse("null or \"\", the only value supported");
}

}  // namespace

Bpe Bpe::parse(const JsonNode& model, bool byte_level) {
  if (const auto type = model.find("type"); type && type->string() != "BPE")
    type->refuse("\"BPE\", the only model supported");
  model.allow_keys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                    "merges"});
  if (const auto dropout = model.find("dropout");
      dropout && !(dropout->value().is_number() && dropout->value().get<double>() == 0.0))
    dropout->refuse("null or 0: encoding must not be random");
  refuse_affix(model, "continuing_subword_prefix");
  refuse_affix(model, "end_of_word_suffix");

  Bpe bpe;
  bpe.fuse_unknown_ = model.boolean("fuse_unk", false);
  bpe.byte_fallback_ = model.boolean("byte_fallback", false);
  bpe.ignore_merges_ = model.boolean("ignore_merges", false);
  bpe.read_vocab(model.at("vocab"));
  bpe.read_merges(model.at("merges"));
  bpe.read_unknown(model);
  bpe.index_code_points();
  bpe.check_coverage(model, byte_level);
  if (!byte_level) bpe.find_boundaries();
  return bpe;
}

void Bpe::read_vocab(const JsonNode& vocab) {
  if (!vocab.value().is_object()) vocab.refuse("object of token: id");
  if (vocab.value().empty()) vocab.refuse("at least one token", "none");
  ids_.reserve(vocab.value().size());
  for (const auto& [token, id] : vocab.value().items()) {
    const JsonNode entry(id, vocab.file(), fmt::format("{}[{}]", vocab.path(), quote(token)));
    const auto value = static_cast<uint32_t>(entry.integer(kMaxTokens - 1));
    const auto inserted = ids_.emplace(token, value).first;
    if (value >= tokens_.size()) tokens_.resize(value + 1, nullptr);
    if (tokens_[value] != nullptr)
      entry.refuse("an id of its own",
                   fmt::format("{}, the id of {}", value, quote(*tokens_[value])));
    tokens_[value] = &inserted->first;
  }
}

void Bpe::read_merges(const JsonNode& merges) {
  const nlohmann::json& list = merges.value();
  if (!list.is_array()) merges.refuse("array");
  if (list.size() > kMaxTokens)
    merges.refuse(fmt::format("at most {} merges", kMaxTokens), std::to_string(list.size()));
  ranks_ = MergeTable(list.size());
  merges_.reserve(list.size());
  const bool pairs = !list.empty() && list.front().is_array();
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonNode merge(list[i], merges.file(), fmt::format("{}[{}]", merges.path(), i));
    if (pairs) {
      if (!list[i].is_array() || list[i].size() != 2 || !list[i][0].is_string() ||
          !list[i][1].is_string())
        merge.refuse("a pair of strings, like the first merge");
      add_merge(merge, list[i][0].get_ref<const std::string&>(),
                list[i][1].get_ref<const std::string&>());
    } else {
      if (!list[i].is_string()) merge.refuse("a string \"a b\", like the first merge");
      if (list[i].get_ref<const std::string&>().starts_with("#version")) continue;
      const auto [left, right] = split_merge(merge);
      add_merge(merge, left, right);
    }
  }
}

void Bpe::add_merge(const JsonNode& merge, const std::string& left, const std::string& right) {
  const auto id = [&](const std::string& token, const char* role) {
    const std::optional<uint32_t> found = token_id(token);
    if (!found) merge.refuse(fmt::format("{} in the vocabulary", role), quote(token));
    return *found;
  };
  const Merge entry{id(left, "the left part"), id(right, "the right part"),
                    id(left + right, "the result of the merge")};
  // A pair listed twice has the rank of its last mention, as in the reference implementation.
  ranks_.insert_or_assign(entry.left, entry.right, static_cast<uint32_t>(merges_.size()));
  merges_.push_back(entry);
}

void Bpe::read_unknown(const JsonNode& model) {
  const auto unknown = model.find("unk_token");
  if (!unknown) return;
  const std::optional<uint32_t> id = token_id(unknown->string());
  if (!id) unknown->refuse("a token of the vocabulary");
  unknown_id_ = *id;
}

void Bpe::index_code_points() {
  for (size_t c = 0; c < code_point_ids_.size(); ++c) {
    std::string text;
    append_utf8(text, static_cast<char32_t>(c));
    code_point_ids_[c] = token_id(text).value_or(kNone);
  }
  for (unsigned byte = 0; byte < 256; ++byte)
    byte_ids_[byte] = token_id(byte_token(byte)).value_or(kNone);
}

// Not where whole words are looked up first: a piece of a word is another word.
void Bpe::find_boundaries() {
  if (ignore_merges_) return;
  boundaries_ = MergeBoundaries::none_joined([&](char32_t c) {
    std::string text;
    append_utf8(text, c);
    return token_id(text).has_value();
  });
  for (const Merge& merge : merges_) {
    const std::string &left = *tokens_[merge.left], &right = *tokens_[merge.right];
    if (left.empty() || right.empty()) continue;  // symbols of a word never are
    boundaries_.join(code_point_at(left, previous_code_point(left, left.size())).value,
                     code_point_at(right, 0).value);
  }
  if (unknown_id_ != kNone && !tokens_[unknown_id_]->empty())
    boundaries_.join_as_other(*tokens_[unknown_id_]);
  if (byte_fallback_) boundaries_.join_as_other(byte_token(0));
}

// Refuses a vocabulary that cannot spell ordinary text. Rare bytes may be absent from a byte-level
// one (SmolLM lacks some control characters): they are refused where they occur in a text.
void Bpe::check_coverage(const JsonNode& model, bool byte_level) const {
  std::string missing;
  size_t count = 0;
  const auto miss = [&](const std::string& token) {
    if (count++ < 8) missing.append(missing.empty() ? "" : " ").append(quote(token));
  };
  if (byte_fallback_) {
    for (unsigned byte = 0; byte < 256; ++byte)
      if (byte_ids_[byte] == kNone) miss(byte_token(byte));
    if (count > 0)
      model.at("vocab").refuse("all 256 byte tokens, because byte_fallback is true",
                               fmt::format("{} missing: {}", count, missing));
    return;
  }
  if (unknown_id_ != kNone) return;
  if (!byte_level)
    model.refuse("unk_token, byte_fallback or a ByteLevel pre-tokenizer",
                 "no way to encode a character outside the vocabulary");
  for (unsigned char byte = ' '; byte <= '~'; ++byte) {
    std::string token;
    append_utf8(token, byte_level_code_point(byte));
    if (!token_id(token)) miss(token);
  }
  if (count > 0)
    model.at("vocab").refuse("a token for every printable ASCII byte, because unk_token is null",
                             fmt::format("{} missing: {}", count, missing));
}

}  // namespace data
