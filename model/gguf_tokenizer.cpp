#include "model/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"

namespace model {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxTokens = uint64_t{1} << 20;  // real vocabularies and merges: < 2^19
constexpr size_t kMaxAdded = 65'536;                // as many as a tokenizer.json may have
constexpr const char* kTokens = "tokenizer.ggml.tokens";

// What stands in tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct PreTokenizerKind {
  std::string_view pre;  // tokenizer.ggml.pre
  const char* split;     // regular expression of the pieces; null: that of GPT-2
  bool digits;           // every digit is a piece
  bool nfc;
  bool ignore_merges;    // a piece that is a token is not merged
  bool begins_with_bos;  // without tokenizer.ggml.add_bos_token
};

constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::array kKinds = {
    PreTokenizerKind{"gpt-2", nullptr, false, false, false, false},
    PreTokenizerKind{"smollm", nullptr, true, false, false, false},
    PreTokenizerKind{"llama-bpe", kLlama3Split, false, false, true, true},
    PreTokenizerKind{"qwen2", kQwen2Split, false, true, false, false},
};

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json pre_tokenizer(const PreTokenizerKind& kind) {
  json steps = json::array();
  if (kind.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (kind.split != nullptr)
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", kind.split}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  steps.push_back(byte_level(kind.split == nullptr));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

class TokenizerMaker {
 public:
  TokenizerMaker(const GgufMetadata& metadata, int64_t vocab_size, const PreTokenizerKind& kind)
      : metadata_(metadata), kind_(kind) {
    tokens_ = list<std::string>(kTokens, &GgufMetadata::strings);
    merges_ = list<std::string>("tokenizer.ggml.merges", &GgufMetadata::strings);
    if (static_cast<int64_t>(tokens_.size()) != vocab_size)
      metadata_.fail(kTokens, fmt::format("{} tokens, the rows of token_embd.weight", vocab_size),
                     std::to_string(tokens_.size()));
    types_.assign(tokens_.size(), kNormal);
    const char* key = "tokenizer.ggml.token_type";
    if (!metadata_.contains(key)) return;
    types_ = list<int64_t>(key, &GgufMetadata::integers);
    if (types_.size() != tokens_.size())
      metadata_.fail(key, fmt::format("{} elements, one for each token", tokens_.size()),
                     std::to_string(types_.size()));
  }

  std::string tokenizer_json() {
    json vocab = json::object(), added = json::array();
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] < kNormal || types_[id] > kByte)
        metadata_.fail(fmt::format("tokenizer.ggml.token_type[{}]", id), "1 to 6",
                       std::to_string(types_[id]));
      if (types_[id] == kUnused) continue;  // padding of the vocabulary
      if (!vocab.emplace(tokens_[id], id).second)
        metadata_.fail(fmt::format("{}[{}]", kTokens, id), "every token once",
                       fmt::format("\"{}\" twice", tokens_[id]));
      if (types_[id] == kControl || types_[id] == kUserDefined || types_[id] == kUnknown)
        added.push_back(added_token(id));
      if (added.size() > kMaxAdded)
        metadata_.fail("tokenizer.ggml.token_type", fmt::format("at most {} special", kMaxAdded),
                       "more");
    }
    json file = {{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", std::move(added)},
                 {"normalizer", nullptr},
                 {"pre_tokenizer", pre_tokenizer(kind_)},
                 {"post_processor", post_processor()},
                 {"decoder", byte_level(true)}};
    if (kind_.nfc) file["normalizer"] = {{"type", "NFC"}};
    file["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", false},
                     {"byte_fallback", false},
                     {"ignore_merges", kind_.ignore_merges},
                     {"vocab", std::move(vocab)},
                     {"merges", merges_}};
    return file.dump() + "\n";
  }

  std::string tokenizer_config_json() const {
    json file = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
    for (const char* role : {"bos", "eos", "unknown", "padding"}) {
      const auto id = token_id(role);
      if (!id) continue;
      const std::string name = std::string_view(role) == "unknown"   ? "unk"
                               : std::string_view(role) == "padding" ? "pad"
                                                                     : role;
      file[name + "_token"] = tokens_[static_cast<size_t>(*id)];
    }
    if (const auto text = metadata_.string("tokenizer.chat_template"))
      file["chat_template"] = *text;
    return file.dump(2) + "\n";
  }

 private:
  template <class T>
  std::vector<T> list(const char* key,
                      std::optional<std::vector<T>> (GgufMetadata::*read)(const std::string&,
                                                                          uint64_t) const) const {
    auto found = (metadata_.*read)(key, kMaxTokens);
    if (!found) metadata_.fail(key, "an array", "nothing");
    return std::move(*found);
  }

  std::optional<int64_t> token_id(const std::string& role) const {
    return metadata_.integer("tokenizer.ggml." + role + "_token_id", 0,
                             static_cast<int64_t>(tokens_.size()) - 1);
  }

  json added_token(size_t id) const {
    return {{"id", id},
            {"content", tokens_[id]},
            {"single_word", false},
            {"lstrip", false},
            {"rstrip", false},
            {"normalized", false},
            {"special", types_[id] != kUserDefined}};
  }

  // ByteLevel there changes offsets only; the template puts bos and eos around a text.
  json post_processor() const {
    json single = json::array(), special = json::object();
    const auto add = [&](const char* role) {
      const auto id = token_id(role);
      if (!id)
        metadata_.fail(fmt::format("tokenizer.ggml.{}_token_id", role),
                       fmt::format("a token, because add_{}_token is true", role), "nothing");
      const std::string& token = tokens_[static_cast<size_t>(*id)];
      single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
      special[token] = {
          {"id", token}, {"ids", json::array({*id})}, {"tokens", json::array({token})}};
    };
    if (metadata_.boolean("tokenizer.ggml.add_bos_token").value_or(kind_.begins_with_bos))
      add("bos");
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (metadata_.boolean("tokenizer.ggml.add_eos_token").value_or(false)) add("eos");
    if (special.empty()) return byte_level(true);
    json pair = single;
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", special}};
  }

  const GgufMetadata& metadata_;
  const PreTokenizerKind& kind_;
  std::vector<std::string> tokens_, merges_;
  std::vector<int64_t> types_;
};

std::string pre_names() {
  std::string names;
  for (const PreTokenizerKind& kind : kKinds)
    names.append(names.empty() ? "" : ", ").append(kind.pre);
  return names;
}

}  // namespace

GgufTokenizer gguf_tokenizer(const GgufMetadata& metadata, int64_t vocab_size) {
  const auto refused = [&](const char* key, const std::string& expected, const std::string& found) {
    return GgufTokenizer{.refusal = core::format_fault({.path = metadata.path(),
                                                        .field = key,
                                                        .expected = expected,
                                                        .found = found,
                                                        .hint = "give a tokenizer.json"})};
  };
  const std::string model = metadata.string("tokenizer.ggml.model").value_or("nothing");
  if (model != "gpt2") return refused("tokenizer.ggml.model", "gpt2", model);
  const std::string pre = metadata.string("tokenizer.ggml.pre").value_or("nothing");
  const auto kind = std::ranges::find(kKinds, pre, &PreTokenizerKind::pre);
  if (kind == kKinds.end()) return refused("tokenizer.ggml.pre", pre_names(), pre);
  if (metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(false))
    return refused("tokenizer.ggml.add_space_prefix", "false", "true");
  TokenizerMaker maker(metadata, vocab_size, *kind);
  return {.tokenizer_json = maker.tokenizer_json(),
          .tokenizer_config_json = maker.tokenizer_config_json(),
          .refusal = {}};
}

}  // namespace model
