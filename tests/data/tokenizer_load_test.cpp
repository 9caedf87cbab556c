// Broken and hostile tokenizer.json files: each is refused with kBadData in one line that names the
// file and the JSON path. Every case is one edit of a small file that loads.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/hash.h"
#include "data/byte_level.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace data {
namespace {

using nlohmann::json;

// All 256 bytes, two merges ("ab", "abc") and one added token, id 300.
json small_tokenizer() {
  json vocab = json::object();
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string token;
    append_utf8(token, byte_level_code_point(static_cast<unsigned char>(byte)));
    vocab[token] = byte;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 300}, {"content", "<s>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c"}}}}};
}

class TokenizerLoad : public testing::Test {
 protected:
  std::string file() const { return (folder_ / "tokenizer.json").string(); }
  Tokenizer load_text(const std::string& text) const {
    temporary_.write("tokenizer.json", text);
    return Tokenizer::load(folder_);
  }
  Tokenizer load(const json& value) const { return load_text(value.dump()); }

  void expect_refused(const std::string& text, const std::string& fragment) const {
    test_support::expect_refusal(core::ExitCode::kBadData, {file() + ":", fragment},
                                 [&] { load_text(text); });
  }
  // Sets the value at a JSON pointer of the small tokenizer and expects the refusal.
  void expect_refused_with(const std::string& pointer, const json& value,
                           const std::string& fragment) const {
    SCOPED_TRACE(pointer);
    json edited = small_tokenizer();
    edited[json::json_pointer(pointer)] = value;
    expect_refused(edited.dump(), fragment);
  }

  test_support::TemporaryFolder temporary_;
  const std::filesystem::path& folder_ = temporary_.path();
};

using Ids = std::vector<uint32_t>;

TEST_F(TokenizerLoad, TheSmallFileLoadsAndWorks) {
  const Tokenizer tokenizer = load(small_tokenizer());
  EXPECT_EQ(tokenizer.encode("abcab<s>b", true), (Ids{257, 256, 300, 'b'}));
  EXPECT_EQ(tokenizer.decode(Ids{257, 300, 256}, false), "abc<s>ab");
  EXPECT_EQ(tokenizer.decode(Ids{257, 300, 256}, true), "abcab");
  EXPECT_EQ(tokenizer.decode(Ids{299, 70000, 256}, true), "ab") << "ids without a token";
  EXPECT_EQ(tokenizer.vocab_size(), 301u);
  EXPECT_EQ(tokenizer.token_id("abc"), 257u);
  EXPECT_EQ(tokenizer.token_id("<s>"), 300u);
  EXPECT_EQ(tokenizer.token_id("absent"), std::nullopt);
  EXPECT_EQ(tokenizer.hash(), core::hash_file_hex(file()));
  EXPECT_EQ(tokenizer.template_description(), "$A");
  ASSERT_EQ(tokenizer.notes().size(), 1u);
  EXPECT_EQ(tokenizer.notes().front(), "42 ids below 301 have no token");
  EXPECT_EQ(Tokenizer::load(file()).encode("ab", false), (Ids{256})) << "by file name";
}

TEST_F(TokenizerLoad, MissingFileIsMissingInput) {
  try {
    Tokenizer::load(folder_ / "nowhere");
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.code(), core::ExitCode::kMissingInput) << error.what();
  }
}

TEST_F(TokenizerLoad, MergesMustBuildOnTheVocabulary) {
  expect_refused_with("/model/merges/1", "ab zz", "model.merges[1]: expected the right part");
  expect_refused_with("/model/merges/1", "zz ab", "model.merges[1]: expected the left part");
  expect_refused_with("/model/merges/1", "b a",
                      "the result of the merge in the vocabulary, got \"ba\"");
  for (const char* text : {"ab", "", " ", "a ", " a", "a  b", "a b c"})
    expect_refused_with("/model/merges/0", text, "two tokens separated by one space");
}

TEST_F(TokenizerLoad, BothSpellingsOfMergesButNoMixture) {
  json pairs = small_tokenizer();
  pairs["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"]])");
  EXPECT_EQ(load(pairs).encode("abc", false), (Ids{257}));
  json versioned = small_tokenizer();
  versioned["model"]["merges"] = {"#version: 0.2", "a b", "ab c"};
  EXPECT_EQ(load(versioned).encode("abc", false), (Ids{257}));
  const auto refused = [&](const char* merges, const char* fragment) {
    expect_refused_with("/model/merges", json::parse(merges), fragment);
  };
  refused(R"(["a b", ["ab", "c"]])", "model.merges[1]: expected a string");
  refused(R"([["a", "b"], "ab c"])", "model.merges[1]: expected a pair");
  refused(R"([["a", "b", "c"]])", "model.merges[0]: expected a pair");
  refused(R"([7])", "model.merges[0]: expected a string");
  refused(R"({"a": "b"})", "model.merges: expected array");
}

TEST_F(TokenizerLoad, IdsMustBeUniqueAndInRange) {
  for (const json& id : {json(-1), json(uint64_t{1} << 31), json(1.5), json("7"), json(nullptr),
                         json(uint64_t{1} << 22), json(UINT64_MAX)})
    expect_refused_with("/model/vocab/ab", id, "model.vocab[\"ab\"]: expected integer from 0 to");
  expect_refused_with("/model/vocab/ab", 257, "an id of its own, got 257");
  expect_refused(R"({"model":{"vocab":{"a":0,"a":1},"merges":[]}})", "duplicate key");
  expect_refused_with("/model/vocab", json::object(), "model.vocab: expected at least one token");
  expect_refused_with("/model/vocab", json::array(), "model.vocab: expected object");
}

TEST_F(TokenizerLoad, AddedTokensMustNotCollide) {
  expect_refused_with("/added_tokens/0/id", 97, "added_tokens[0].id");
  expect_refused_with("/added_tokens/0/content", "ab", "expected 256, the id of \"ab\"");
  expect_refused_with("/added_tokens/0/content", "", "added_tokens[0].content");
  expect_refused_with("/added_tokens/1", {{"id", 300}, {"content", "x"}}, "added_tokens[1].id");
  expect_refused_with("/added_tokens/1", {{"id", 301}, {"content", "<s>"}},
                      "added_tokens[1].content");
  expect_refused_with("/added_tokens/0/lstrip", "yes",
                      "added_tokens[0].lstrip: expected true or false");
}

TEST_F(TokenizerLoad, TemplatesMustNameKnownTokens) {
  const json special = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json good = {
      {"type", "TemplateProcessing"},
      {"single", {special, text, special}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {300}}, {"tokens", {"<s>"}}}}}}};
  json with_template = small_tokenizer();
  with_template["post_processor"] = good;
  const Tokenizer tokenizer = load(with_template);
  EXPECT_EQ(tokenizer.encode("ab", true), (Ids{300, 256, 300}));
  EXPECT_EQ(tokenizer.encode("", true), (Ids{300, 300}));
  EXPECT_EQ(tokenizer.encode("ab", false), (Ids{256}));
  EXPECT_EQ(tokenizer.template_description(), "<s> $A <s>");

  const auto refused = [&](const std::string& pointer, const json& value,
                           const std::string& fragment) {
    json edited = good;
    edited[json::json_pointer(pointer)] = value;
    expect_refused_with("/post_processor", edited, fragment);
  };
  refused("/special_tokens", json::object(), "post_processor.single[0].SpecialToken.id");
  refused("/special_tokens/<s>/tokens/0", "<absent>",
          "expected a token of the vocabulary, got \"<absent>\"");
  refused("/special_tokens/<s>/ids/0", 5, "expected 300, the id of");
  refused("/special_tokens/<s>/ids", json::array(), "as many ids as tokens");
  refused("/single", {special}, "post_processor.single");
  refused("/single", {text, text}, "post_processor.single[1].Sequence.id");
}

TEST_F(TokenizerLoad, UnknownComponentsAreRefusedByNameAndPath) {
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    const std::string name = part;
    expect_refused_with("/" + name, {{"type", "Bert"}},
                        name + ".type: expected one of the supported");
    expect_refused_with("/" + name, {{"kind", "x"}}, name + ".type: expected a value, got nothing");
    expect_refused_with("/" + name, "ByteLevel", name + ": expected object");
  }
  expect_refused_with("/model/type", "Unigram", "model.type: expected \"BPE\"");
  expect_refused_with("/model/mystery", 1, "model: expected only the keys");
  expect_refused_with("/mystery", 1, "expected only the keys");
  expect_refused_with("/version", "2.0", "version: expected \"1.0\"");
  expect_refused_with(
      "/pre_tokenizer",
      {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}},
      "pre_tokenizer.pretokenizers[1]: expected nothing after ByteLevel");
  expect_refused_with("/normalizer",
                      {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", ""}},
                      "normalizer.pattern");
  expect_refused_with("/normalizer",
                      {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", ""}},
                      "normalizer.pattern");
  expect_refused_with("/decoder", {{"type", "Strip"}, {"content", ""}, {"start", 1}, {"stop", 0}},
                      "decoder.content: expected one character");
  expect_refused_with("/decoder", {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}},
                      "decoder.start");
}

TEST_F(TokenizerLoad, OnlyKnownPatternsRun) {
  const auto split = [](const std::string& pattern) {
    return json{{"type", "Split"},
                {"pattern", {{"Regex", pattern}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  };
  expect_refused_with("/pre_tokenizer", split("(a+)+"),
                      "pre_tokenizer.pattern.Regex: expected the pattern of");
  expect_refused_with("/pre_tokenizer", split(std::string(1 << 20, '(')),
                      "pre_tokenizer.pattern.Regex");
  json merged = split(R"(\s+)");
  merged["behavior"] = "MergedWithNext";
  expect_refused_with("/pre_tokenizer", merged, "pre_tokenizer.behavior");
}

TEST_F(TokenizerLoad, RandomOrIncompleteModelsAreRefused) {
  expect_refused_with("/model/dropout", 0.1, "model.dropout");
  json zero = small_tokenizer();
  zero["model"]["dropout"] = 0.0;
  EXPECT_EQ(load(zero).encode("ab", false), (Ids{256}));
  expect_refused_with("/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix");
  expect_refused_with("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
  expect_refused_with("/model/unk_token", "<unk>",
                      "model.unk_token: expected a token of the vocabulary");
  expect_refused_with("/model/byte_fallback", true, "model.vocab: expected all 256 byte tokens");
  expect_refused_with("/pre_tokenizer", nullptr, "model: expected unk_token, byte_fallback");
  json no_z = small_tokenizer();
  no_z["model"]["vocab"].erase("z");
  expect_refused(no_z.dump(), "1 missing: \"z\"");
}

TEST_F(TokenizerLoad, ARareByteWithoutATokenIsRefusedWhereItOccurs) {
  json sparse = small_tokenizer();
  std::string token;
  append_byte_level(token, "\x01");
  sparse["model"]["vocab"].erase(token);
  const Tokenizer tokenizer = load(sparse);
  EXPECT_EQ(tokenizer.encode("ab", false), (Ids{256}));
  EXPECT_THROW(tokenizer.encode("ab \x01", false), core::Error);
  EXPECT_EQ(tokenizer.encode("ab", false), (Ids{256})) << "usable after a refusal";
  sparse["model"]["unk_token"] = "abc";
  EXPECT_EQ(load(sparse).encode("\x01", false), (Ids{257}));
}

TEST_F(TokenizerLoad, RubbishIsRefused) {
  const std::string good = small_tokenizer().dump();
  for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1})
    expect_refused(good.substr(0, size), "JSON");
  expect_refused(R"({"model":{"vocab":{"\ud800":0},"merges":[]}})", "JSON");
  expect_refused("{\"model\":{\"vocab\":{\"\xC0\x80\":0},\"merges\":[]}}", "JSON");
  expect_refused("[]", "expected object");
  expect_refused("{}", "model: expected a value, got nothing");
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += R"({"type":"Sequence","normalizers":[)";
  expect_refused("{\"normalizer\":" + nested, "deeper");
  json wrong = small_tokenizer();
  for (const char* key :
       {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"})
    for (const json& value : {json(7), json("x"), json(true), json{json::array({1})}})
      expect_refused_with(std::string("/") + key, value, key);
}

TEST_F(TokenizerLoad, TruncationAndPaddingAreNoted) {
  json settings = small_tokenizer();
  settings["truncation"] = {{"max_length", 8}};
  settings["padding"] = {{"pad_id", 0}};
  EXPECT_EQ(load(settings).notes().size(), 3u);
}

}  // namespace
}  // namespace data
