// Broken and hostile tokenizer.json files: each is refused with kBadData in one line that names the
// file and the JSON path. Every case is one edit of a small file that loads.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
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

json template_of(const json& single, const json& special_tokens) {
  return {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", special_tokens}};
}
json special_piece(const std::string& name) {
  return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
}
const json kTextPiece = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};

// A special token of `count` ids, all those of <s>.
json special_token(size_t count) {
  return {{"id", "x"}, {"ids", json(count, 300)}, {"tokens", json(count, "<s>")}};
}

TEST_F(TokenizerLoad, AddedTokensAreShort) {
  const auto token = [](int id, const std::string& content) {
    return json{{"id", id}, {"content", content}, {"special", true}};
  };
  expect_refused_with("/added_tokens/0/content", std::string(257, 'x'),
                      "added_tokens[0].content: expected at most 256 bytes");
  json many = json::array();
  for (int i = 0; i < 4097; ++i)
    many.push_back(token(300 + i, std::to_string(10'000 + i) + std::string(251, 'x')));
  expect_refused_with("/added_tokens", many, "at most 1048576 bytes in all tokens together");
  many.erase(4096);
  json tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = many;
  EXPECT_NO_THROW(Tokenizer::parse("tokenizer.json", tokenizer.dump()));
}

TEST_F(TokenizerLoad, NormalizedAddedTokensAreShort) {
  json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(100, 'b')}};
  tokenizer["added_tokens"][0] = {{"id", 300}, {"content", "xaa"}, {"normalized", true}};
  EXPECT_NO_THROW(Tokenizer::parse("tokenizer.json", tokenizer.dump()));
  tokenizer["added_tokens"][0]["content"] = "xaaa";
  test_support::expect_refusal(core::ExitCode::kBadData,
                               "added_tokens[0].content: expected at most 256 bytes when it is "
                               "normalized",
                               [&] { Tokenizer::parse("tokenizer.json", tokenizer.dump()); });
}

TEST_F(TokenizerLoad, TemplatesAreShort) {
  const auto processors = [](const json& list) {
    return json{{"type", "Sequence"}, {"processors", list}};
  };
  // What is at most 1024 is the ids of all pieces of all templates together.
  json single = json(1022, special_piece("one"));
  single.push_back(kTextPiece);
  single.push_back(special_piece("two"));
  const json special_tokens = {{"one", special_token(1)}, {"two", special_token(2)}};
  json most = small_tokenizer();
  most["post_processor"] = template_of(single, special_tokens);
  EXPECT_EQ(load(most).encode("ab", true).size(), 1025u);
  const json one_more = template_of({kTextPiece, special_piece("one")}, special_tokens);
  expect_refused_with("/post_processor", processors({most["post_processor"], one_more}),
                      "expected at most 1024 ids around a document, got more");
  expect_refused_with("/post_processor",
                      template_of({kTextPiece, special_piece("x")}, {{"x", special_token(1025)}}),
                      "special_tokens.x.ids: expected at most 1024 ids");
  expect_refused_with("/post_processor",
                      template_of({special_piece("x"), special_piece("x"), kTextPiece},
                                  {{"x", special_token(513)}}),
                      "special_tokens.x.ids: expected at most 1024 ids");
  expect_refused_with("/post_processor", template_of(json(1026, kTextPiece), json::object()),
                      "post_processor.single: expected at most 1025 elements");
  const json byte_level = {{"type", "ByteLevel"}};
  json full = small_tokenizer();
  full["post_processor"] = processors(json(64, byte_level));
  EXPECT_EQ(load(full).encode("ab", true), (Ids{256}));
  expect_refused_with("/post_processor", processors({full["post_processor"], byte_level}),
                      "post_processor.processors[1]: expected at most 64 post-processors");
}

TEST_F(TokenizerLoad, DescriptionsFitATerminal) {
  const std::string escape = "<\x1B[2J>", control = "\u009B2J", endless(60'000, 'n'),
                    fullwidth = "<\uFF5Cbegin\u2581of\uFF5C>";
  json special_tokens;
  json single = {kTextPiece};
  for (const std::string& name : {escape, control, endless, fullwidth}) {
    special_tokens[name] = special_token(1);
    single.push_back(special_piece(name));
  }
  single.insert(single.begin(), special_piece(escape));
  json edited = small_tokenizer();
  edited["post_processor"] = template_of(single, special_tokens);
  const std::string quoted_escape = R"("<\u001b[2J>")";
  EXPECT_EQ(load(edited).template_description(), quoted_escape + " $A " + quoted_escape +
                                                     R"( "\u009b2J" ")" + std::string(79, 'n') +
                                                     "... " + fullwidth);
}

// Longer lists are refused before a node is made of any element.
TEST_F(TokenizerLoad, ListsOfComponentsAreShort) {
  for (const auto& [part, list] :
       std::map<std::string, std::string>{{"normalizer", "normalizers"},
                                          {"pre_tokenizer", "pretokenizers"},
                                          {"post_processor", "processors"},
                                          {"decoder", "decoders"}})
    expect_refused_with("/" + part, {{"type", "Sequence"}, {list, json(65, 0)}},
                        part + "." + list + ": expected at most 64 elements, got 65");
}

TEST_F(TokenizerLoad, WhatIsReplacedIsShort) {
  const std::string most(256, 'a'), more(257, 'a');
  const auto replace = [](const std::string& pattern, const std::string& content) {
    return json{{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
  };
  json edited = small_tokenizer();
  edited["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {replace(most, "b"), replace("ab", most), {{"type", "Prepend"}, {"prepend", most}}}}};
  edited["decoder"] = replace(most, most);
  EXPECT_EQ(load(edited).encode(most + "ab", false).size(), 513u - 1u) << "256 a, b, 255 a, ab";
  for (const char* part : {"normalizer", "decoder"}) {
    const std::string name = part, expected = ": expected at most 256 bytes, got 257";
    expect_refused_with("/" + name, replace(more, "b"), name + ".pattern.String" + expected);
    expect_refused_with("/" + name, replace("a", more), name + ".content" + expected);
  }
  expect_refused_with("/normalizer", {{"type", "Prepend"}, {"prepend", more}},
                      "normalizer.prepend: expected at most 256 bytes, got 257");
}

// The stretches between added tokens share what may be made of a text, Prepend included.
TEST_F(TokenizerLoad, ATextGrowsWithinOneBudget) {
  const json prepend = {{"type", "Prepend"}, {"prepend", std::string(256, '_')}};
  json edited = small_tokenizer();
  edited["normalizer"] = prepend;
  const Tokenizer tokenizer = load(edited);
  const auto text = [](size_t stretches) {
    std::string all;
    while (stretches-- > 0) all += "<s>b";
    return all;
  };
  // 257 n <= 32 * 4 n + 4096 up to n = 31
  EXPECT_EQ(tokenizer.encode(text(31), false).size(), 31u * 258);
  EXPECT_FAILS(kBadData, "text: expected at most 32 times its bytes and 4096 more",
               tokenizer.encode(text(32), false));
  EXPECT_EQ(tokenizer.encode(text(31), false).size(), 31u * 258) << "a budget for every call";
  edited["normalizer"] = {{"type", "Sequence"}, {"normalizers", json(64, prepend)}};
  EXPECT_FAILS(kBadData, "text: expected at most", load(edited).encode("b", false));
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
