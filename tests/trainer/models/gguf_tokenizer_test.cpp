// Tokenizers from GGUF metadata give the ids of the tokenizer.json that the metadata was taken
// from.
#include "model/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "data/tokenizer.h"
#include "model/gguf_import.h"
#include "tests/support/fixture.h"
#include "tests/support/refusal.h"
#include "trainer/models/model_folder.h"
#include "trainer/models/tokenizer_argument.h"

namespace trainer {
namespace {

using core::ExitCode;
using model::GgufType;
using nlohmann::json;
using test_support::expect_refusal;

// Metadata whose bytes live here.
class Metadata {
 public:
  void add(const std::string& key, GgufType type, const std::string& bytes,
           std::optional<uint64_t> count = std::nullopt) {
    bytes_.push_back(bytes);
    values_[key] = {type, count, std::as_bytes(std::span(bytes_.back()))};
  }
  void text(const std::string& key, const std::string& value) {
    add(key, GgufType::string, encoded(value));
  }
  void flag(const std::string& key, bool value) {
    add(key, GgufType::boolean, std::string(1, value ? '\1' : '\0'));
  }
  void number(const std::string& key, uint32_t value) { add(key, GgufType::u32, raw(value)); }
  void texts(const std::string& key, const std::vector<std::string>& list) {
    std::string bytes;
    for (const std::string& value : list) bytes += encoded(value);
    add(key, GgufType::string, bytes, list.size());
  }
  void numbers(const std::string& key, const std::vector<int32_t>& list) {
    std::string bytes;
    for (const int32_t value : list) bytes += raw(value);
    add(key, GgufType::i32, bytes, list.size());
  }
  model::GgufMetadata get() const { return {"x.gguf", values_}; }

 private:
  template <class T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
  static std::string encoded(const std::string& text) {
    return raw(static_cast<uint64_t>(text.size())) + text;
  }

  std::deque<std::string> bytes_;
  std::map<std::string, model::GgufValue> values_;
};

struct Case {
  std::string fixture, pre;
};

// What the public converter writes for a tokenizer.json.
Metadata metadata_of(const Case& c, size_t& vocab_size) {
  const json file = core::read_json(test_support::fixture_path(c.fixture) / "tokenizer.json");
  std::vector<std::string> tokens(file["model"]["vocab"].size()), merges;
  for (const auto& [token, id] : file["model"]["vocab"].items()) {
    if (id.get<size_t>() >= tokens.size()) tokens.resize(id.get<size_t>() + 1);
    tokens[id] = token;
  }
  for (const json& token : file["added_tokens"])
    if (token["id"].get<size_t>() >= tokens.size()) tokens.resize(token["id"].get<size_t>() + 1);
  std::vector<int32_t> types(tokens.size(), 1);
  for (const json& token : file["added_tokens"]) {
    tokens[token["id"]] = token["content"];
    types[token["id"]] = token["special"].get<bool>() ? 3 : 4;
  }
  for (const json& merge : file["model"]["merges"])
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  Metadata metadata;
  metadata.text("tokenizer.ggml.model", "gpt2");
  metadata.text("tokenizer.ggml.pre", c.pre);
  metadata.texts("tokenizer.ggml.tokens", tokens);
  metadata.numbers("tokenizer.ggml.token_type", types);
  metadata.texts("tokenizer.ggml.merges", merges);
  metadata.number("tokenizer.ggml.bos_token_id", 0);
  metadata.number("tokenizer.ggml.eos_token_id", 1);
  vocab_size = tokens.size();
  return metadata;
}

class GgufTokenizers : public testing::TestWithParam<Case> {};

TEST_P(GgufTokenizers, GiveTheIdsOfTheReference) {
  size_t size = 0;
  const Metadata metadata = metadata_of(GetParam(), size);
  const model::GgufTokenizer stored =
      model::gguf_tokenizer(metadata.get(), static_cast<int64_t>(size));
  ASSERT_EQ(stored.refusal, "");
  const auto tokenizer = data::Tokenizer::parse("x.gguf", stored.tokenizer_json);
  std::ifstream cases(test_support::fixture_path(GetParam().fixture) / "cases.jsonl");
  int count = 0;
  for (std::string line; std::getline(cases, line); ++count) {
    const json wanted = json::parse(line);
    const std::string text = wanted["text"];
    EXPECT_EQ(tokenizer.encode(text, true), wanted["ids"].get<std::vector<uint32_t>>()) << line;
    EXPECT_EQ(tokenizer.decode(wanted["ids"].get<std::vector<uint32_t>>(), true),
              wanted["decoded_skip_special"].get<std::string>())
        << line;
  }
  EXPECT_GT(count, 20);
}

INSTANTIATE_TEST_SUITE_P(Kinds, GgufTokenizers,
                         testing::Values(Case{"tokenizer-gpt2", "gpt-2"},
                                         Case{"tokenizer-smollm", "smollm"},
                                         Case{"tokenizer-llama3", "llama-bpe"},
                                         Case{"tokenizer-qwen2", "qwen2"}),
                         [](const auto& kind) {
                           std::string name = kind.param.pre;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GgufTokenizer, UnknownKindsAreNamed) {
  size_t size = 0;
  Metadata metadata = metadata_of({"tokenizer-gpt2", "gpt-2"}, size);
  const auto refusal = [&] {
    return model::gguf_tokenizer(metadata.get(), static_cast<int64_t>(size)).refusal;
  };
  metadata.text("tokenizer.ggml.pre", "tekken");
  EXPECT_EQ(refusal(),
            "x.gguf: error: tokenizer.ggml.pre: expected gpt-2, smollm, llama-bpe, qwen2, got "
            "tekken; give a tokenizer.json");
  metadata.text("tokenizer.ggml.model", "llama");
  EXPECT_NE(refusal().find("tokenizer.ggml.model: expected gpt2, got llama"), std::string::npos);
}

TEST(GgufTokenizer, GG17ListsThatDoNotBelongTogether) {
  size_t size = 0;
  const Case gpt2{"tokenizer-gpt2", "gpt-2"};
  const auto bad = [&](const std::string& part, auto change) {
    Metadata metadata = metadata_of(gpt2, size);
    change(metadata);
    expect_refusal(ExitCode::kBadData, part,
                   [&] { model::gguf_tokenizer(metadata.get(), static_cast<int64_t>(size)); });
  };
  bad("tokenizer.ggml.token_type: expected", [](Metadata& m) {
    m.numbers("tokenizer.ggml.token_type", {1, 1, 1});
  });
  bad("tokenizer.ggml.tokens: expected", [](Metadata& m) {
    m.texts("tokenizer.ggml.tokens", {"a", "b"});
  });
  bad("tokenizer.ggml.tokens: expected an array of STRING",
      [&](Metadata& m) { m.numbers("tokenizer.ggml.tokens", std::vector<int32_t>(size)); });
  bad("tokenizer.ggml.eos_token_id: expected an integer from 0 to",
      [](Metadata& m) { m.number("tokenizer.ggml.eos_token_id", 1 << 20); });
  bad("twice",
      [&](Metadata& m) { m.texts("tokenizer.ggml.tokens", std::vector<std::string>(size, "a")); });
  bad("UTF-8 without NUL", [&](Metadata& m) {
    m.texts("tokenizer.ggml.tokens", std::vector<std::string>(size, "\xFF"));
  });
  bad("tokenizer.ggml.token_type[0]: expected 1 to 6, got 9",
      [&](Metadata& m) { m.numbers("tokenizer.ggml.token_type", std::vector<int32_t>(size, 9)); });
}

TEST(GgufModelArgument, IsAModelLikeAFolder) {
  const auto path = test_support::fixture_path("gguf") / "llama-gqa-tied.gguf";
  const LoadedModel gguf = load_model(path),
                    folder = load_model(test_support::fixture_path("llama-gqa-tied"));
  EXPECT_EQ(gguf.kind, ModelKind::gguf);
  EXPECT_EQ(gguf.hash, folder.hash);
  EXPECT_EQ(generation_eos(gguf), generation_eos(folder));
  ASSERT_EQ(gguf.notes.size(), 1u);
  EXPECT_NE(gguf.notes[0].find("no tokenizer"), std::string::npos);
  expect_refusal(ExitCode::kMissingInput, "tokenizer", [&] { tokenizer_of(gguf); });
  expect_refusal(ExitCode::kBadData, "tokenizer.ggml.model", [&] { open_tokenizer(path); });
}

}  // namespace
}  // namespace trainer
