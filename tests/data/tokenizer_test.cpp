// What the fixtures do not show: the rules of added tokens, Metaspace, hostile text, long words.
#include "data/tokenizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/bpe.h"
#include "data/byte_level.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_added.h"
#include "data/tokenizer_decoder.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_normalizer.h"
#include "data/utf8.h"
#include "tests/support/refusal.h"

namespace data {
namespace {

using nlohmann::json;
using Ids = std::vector<uint32_t>;
using Strings = std::vector<std::string>;
using test_support::expect_refusal;

Tokenizer fixture(const std::string& name) {
  return Tokenizer::load(std::string(MHA2MLA_TEST_DATA) + "/tokenizer-" + name);
}

Strings words(const json& config, const std::string& text) {
  const JsonNode node(config, "test");
  Strings result;
  PreTokenizer::parse(node).split(
      {text, true}, [&](PreTokenizer::Piece piece) { result.emplace_back(piece.text); });
  return result;
}

// "[...]" around each added token, "|" before other text.
std::string show_split(const std::vector<AddedToken>& tokens, const std::string& text) {
  const AddedTokenFinder finder(tokens, false, Normalizer());
  std::string shown;
  for (const auto& s : finder.split(text)) {
    const std::string part = text.substr(s.begin, s.end - s.begin);
    shown += s.token != nullptr ? "[" + part + "]" : "|" + part;
  }
  return shown;
}

TEST(Utf8, RepairsEveryMaximalIllFormedRun) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(repair_utf8("plain \u20AC"), "plain \u20AC");
  EXPECT_EQ(repair_utf8("a\xFF\xFE"), "a" + r + r);
  EXPECT_EQ(repair_utf8("\xE2\x82x"), r + "x");  // cut short: one run
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98"), r);
  EXPECT_EQ(repair_utf8("\xC0\x80"), r + r);                  // overlong: no run begins
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(repair_utf8("\xE1\x80\xE1\x80\x80"), r + "\u1000");
}

TEST(ByteLevel, AlphabetIsABijection) {
  std::string all, spelled, back;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  append_byte_level(spelled, all);
  append_byte_level_decoded(back, spelled);
  EXPECT_EQ(back, all);
  EXPECT_EQ(byte_level_code_point(' '), 0x120u);
  EXPECT_EQ(byte_level_code_point('\n'), 0x10Au);
  EXPECT_EQ(byte_level_code_point(0xAD), 0x143u);
}

TEST(AddedTokens, LeftmostThenLongest) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "<a>"}, {.id = 2, .content = "<a><b>"}, {.id = 3, .content = "><"}};
  EXPECT_EQ(show_split(tokens, "x<a><b>y<a><c"), "|x[<a><b>]|y[<a>]|<c");
  EXPECT_EQ(show_split(tokens, "<<a"), "|<<a");
  EXPECT_EQ(show_split(tokens, ""), "");
}

TEST(AddedTokens, StripsTakeNeighbouringWhiteSpace) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<l>", .lstrip = true},
                                          {.id = 2, .content = "<r>", .rstrip = true}};
  EXPECT_EQ(show_split(tokens, "a \t<l> b"), "|a[ \t<l>]| b");
  EXPECT_EQ(show_split(tokens, "a <r>\u3000\nb"), "|a [<r>\u3000\n]|b");
  EXPECT_EQ(show_split(tokens, "<r>  <l>"), "[<r>  ][<l>]") << "white space is taken once";
  EXPECT_EQ(show_split(tokens, "x\u180E<l>"), "|x\u180E[<l>]") << "U+180E is not white space";
}

TEST(AddedTokens, SingleWordNeedsNoWordCharacterBeside) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "ok", .single_word = true}};
  EXPECT_EQ(show_split(tokens, "ok token ok, \u00E9ok ok_ ok"),
            "[ok]| token [ok]|, \u00E9ok ok_ [ok]");
}

TEST(AddedTokens, EverySiblingIsFound) {
  std::mt19937 random(9);
  std::vector<AddedToken> tokens;
  std::string text, expected;
  for (char c = '!'; c <= '~'; ++c) tokens.push_back({.content = std::string("<") + c});
  std::shuffle(tokens.begin(), tokens.end(), random);
  for (const AddedToken& token : tokens) {
    text += token.content;
    expected += "[" + token.content + "]";
  }
  EXPECT_EQ(show_split(tokens, text), expected);
}

TEST(PreTokenizers, DigitsRunBeforeTheWordPattern) {
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_EQ(words(byte_level, "a   12"), (Strings{"a", "  ", " 12"}));
  EXPECT_EQ(words({{"type", "Sequence"}, {"pretokenizers", {digits, byte_level}}}, "a   12"),
            (Strings{"a", "   ", "1", "2"}));
  EXPECT_EQ(words({{"type", "Digits"}}, "a12\u00BD\u0E53b"), (Strings{"a", "12\u00BD\u0E53", "b"}));
  EXPECT_EQ(words({{"type", "ByteLevel"}}, "hi you"), (Strings{" hi", " you"}));
}

TEST(PreTokenizers, MongolianVowelSeparatorIsNotSpace) {
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(words(byte_level, "a \u180Eb"), (Strings{"a", " \u180E", "b"}));
  EXPECT_EQ(words(byte_level, "a\u0085\u00A0b"), (Strings{"a", "\u0085", "\u00A0", "b"}));
}

TEST(PreTokenizers, MetaspaceSchemes) {
  const auto metaspace = [](const char* scheme, bool split) {
    return json{
        {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}, {"split", split}};
  };
  EXPECT_EQ(words(metaspace("always", true), "a  b"), (Strings{"_a", "_", "_b"}));
  EXPECT_EQ(words(metaspace("first", false), "a b"), (Strings{"_a_b"}));
  EXPECT_EQ(words(metaspace("first", false), " a"), (Strings{"_a"}));
  EXPECT_EQ(words(metaspace("never", true), "a b"), (Strings{"a", "_b"}));
}

// Each would give its mark to every word of the one before: 64 of them never end.
TEST(PreTokenizers, OneMetaspaceAtMost) {
  const auto metaspace = [](const char* mark) {
    return json{{"type", "Metaspace"}, {"replacement", mark}};
  };
  const auto refused = [](const json& steps, const std::string& place) {
    const json config = {{"type", "Sequence"}, {"pretokenizers", steps}};
    expect_refusal(core::ExitCode::kBadData, place + ": expected one Metaspace, got another",
                   [&] { words(config, ""); });
  };
  refused({metaspace("_"), metaspace("-")}, "pretokenizers[1]");
  refused({metaspace("_"), {{"type", "Digits"}}, metaspace("_")}, "pretokenizers[2]");
  refused({{{"type", "Sequence"}, {"pretokenizers", {metaspace("_")}}}, metaspace("_")},
          "pretokenizers[1]");
}

std::string nfc(const std::string& text) {
  const json config = {{"type", "NFC"}};
  return Normalizer::parse(JsonNode(config, "test"))(text);
}

std::string repeated(size_t times, std::string_view text) {
  std::string all;
  while (times-- > 0) all += text;
  return all;
}

TEST(Normalizers, NfcIsThatOfUtf8proc) {
  // Letters, marks, what composes and decomposes in odd ways, Hangul, and then anything.
  const std::vector<std::pair<unsigned, unsigned>> ranges = {
      {'a', 'z'},       {1, 127},         {0xC0, 0x17F},      {0x300, 0x34F},   {0x591, 0x5C7},
      {0x958, 0x95F},   {0xF71, 0xF84},   {0x1100, 0x11C2},   {0x1EA0, 0x1EF9}, {0x1F00, 0x1FFF},
      {0x212A, 0x212B}, {0xAC00, 0xD7A3}, {0x1D15E, 0x1D172}, {1, 0x10FFFF}};
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (size_t n = random() % 20; n > 0; --n) {
      const auto& [first, last] = ranges[random() % ranges.size()];
      const auto c = static_cast<char32_t>(first + random() % (last - first + 1));
      if (c < 0xD800 || c > 0xDFFF) append_utf8(text, c);
    }
    utf8proc_uint8_t* const expected =
        utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str()));
    ASSERT_NE(expected, nullptr);
    EXPECT_EQ(nfc(text), reinterpret_cast<const char*>(expected)) << testing::PrintToString(text);
    std::free(expected);
  }
  EXPECT_EQ(nfc(std::string("e\u0301\0e", 5)), std::string("\u00E9\0e", 4)) << "NUL is a character";
}

// Sorting by swaps of neighbours takes hours for these. The second hides its marks (classes 129 and
// 130) in a character that is none.
TEST(Normalizers, NfcSortsLongRunsOfMarks) {
  constexpr size_t kMarks = 300'000;
  EXPECT_TRUE(nfc("a" + repeated(kMarks, "\u0301") + repeated(kMarks, "\u0323")) ==
              "\u1EA1" + repeated(kMarks - 1, "\u0323") + repeated(kMarks, "\u0301"));
  EXPECT_TRUE(nfc(repeated(kMarks, "\u0F73")) ==
              repeated(kMarks, "\u0F71") + repeated(kMarks, "\u0F72"));
}

TEST(Normalizers, TakeWhatTheyMakeOffTheBudget) {
  const json config = {{"type", "Sequence"},
                       {"normalizers",
                        {{{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "bbb"}},
                         {{"type", "Prepend"}, {"prepend", "____"}},
                         {{"type", "Replace"}, {"pattern", {{"String", "_"}}}, {"content", ""}}}}};
  const Normalizer normalizer = Normalizer::parse(JsonNode(config, "test"));
  size_t budget = 23;
  EXPECT_EQ(normalizer("aac", budget), "bbbbbbc");  // 11 bytes on the way
  EXPECT_EQ(budget, 16u);
  EXPECT_EQ(normalizer("aaaa", budget), "bbbbbbbbbbbb");  // 16 on the way
  EXPECT_EQ(budget, 4u);
  EXPECT_EQ(normalizer("", budget), "");
  for (const char* text : {"c", "aa"})
    expect_refusal(core::ExitCode::kBadData, "text: expected at most 32 times its bytes and 4096",
                   [&] { normalizer(text, budget); });
  EXPECT_EQ(budget, 4u);
}

TEST(JsonNode, ItemsRefuseMoreThanTheirCallerReads) {
  const json config = {{"list", json::array({1, 2, 3})}};
  const auto list = JsonNode(config, "test").at("list");
  EXPECT_EQ(list.items(3).size(), 3u);
  expect_refusal(core::ExitCode::kBadData, "test: error: list: expected at most 2 elements, got 3",
                 [&] { list.items(2); });
  const json endless(kMaxItems + 1, 0);
  expect_refusal(core::ExitCode::kBadData, "expected at most 65536 elements, got 65537",
                 [&] { JsonNode(endless, "test").items(); });
}

// Each of the elements copies the path.
TEST(JsonNode, LongKeysAreCutInPaths) {
  const std::string key(60'000, 'k');
  const json config = {{"short", {{key, json::array({1, 2})}}}, {std::string(80, 'k'), 1}};
  const JsonNode root(config, "test");
  EXPECT_EQ(root.at(std::string(80, 'k')).path(), std::string(80, 'k'));
  for (const JsonNode& item : root.at("short").at(key).items(2))
    EXPECT_LT(item.path().size(), 110u) << item.path();
  expect_refusal(core::ExitCode::kBadData, "short[\"kkkkk",
                 [&] { root.at("short").at(key).string(); });
}

TEST(Decoders, ByteFallbackReplacesEveryByteOfAnInvalidRun) {
  const json config = {{"type", "ByteFallback"}};
  const TokenDecoder decoder = TokenDecoder::parse(JsonNode(config, "test"));
  EXPECT_EQ(decoder({"a", "<0xE2>", "<0x82>", "<0xAC>", "b"}), "a\u20ACb");
  EXPECT_EQ(decoder({"<0xE2>", "<0x82>", "b"}), "\uFFFD\uFFFDb");
  EXPECT_EQ(decoder({"<0xZZ>"}), "<0xZZ>");
  EXPECT_EQ(TokenDecoder::parse(std::nullopt)({"a", "b"}), "a b");
}

TEST(Tokenizer, NamesTheByteThatIsNotUtf8) {
  try {
    fixture("smollm").encode("ab\xE2\x82 c", true);
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.code(), core::ExitCode::kBadData);
    EXPECT_STREQ(error.what(), "byte 2: error: text: expected UTF-8, got byte 0xE2");
  }
}

std::string random_text(std::mt19937& random) {
  static const Strings kParts = {"the",        " ",       "  ",
                                 "\n",         "\r\n",    "\t",
                                 "7",          "42",      "'ll",
                                 "\u00E9",     "e\u0301", "\u4F60\u597D",
                                 "\U0001F600", "\u200D",  "<|endoftext|>",
                                 "<s>",        "\u2581",  "\u0661",
                                 "\u00BD",     ".",       "--",
                                 "\u180E",     "Zebra"};
  std::string text;
  for (size_t n = random() % 40; n > 0; --n) text += kParts[random() % kParts.size()];
  return text;
}

TEST(Tokenizer, DecodingIsTheInverseOfEncoding) {
  std::mt19937 random(7);
  const Tokenizer gpt2 = fixture("gpt2"), smollm = fixture("smollm"), llama3 = fixture("llama3");
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random);
    for (const Tokenizer* t : {&gpt2, &smollm, &llama3})
      ASSERT_EQ(t->decode(t->encode(text, false), false), text) << testing::PrintToString(text);
  }
}

// The definition of BPE, word by word: the lowest rank first, the leftmost of equals.
Ids naive_bpe(const json& model, const std::string& word) {
  std::map<std::pair<std::string, std::string>, size_t> rank;
  for (const json& merge : model.at("merges")) {
    const std::string text = merge;
    const size_t space = text.find(' ');
    rank[{text.substr(0, space), text.substr(space + 1)}] = rank.size();
  }
  Strings parts;
  for (size_t at = 0; at < word.size(); at += code_point_at(word, at).length)
    parts.push_back(word.substr(at, code_point_at(word, at).length));
  for (;;) {
    size_t best = SIZE_MAX, where = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      if (const auto r = rank.find({parts[i], parts[i + 1]}); r != rank.end() && r->second < best) {
        best = r->second;
        where = i;
      }
    if (best == SIZE_MAX) break;
    parts[where] += parts[where + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(model.at("vocab").at(part));
  return ids;
}

// Every string over {a, b, c} up to length 5 is a token; merges are random ones of them.
json random_model(std::mt19937& random) {
  Strings tokens = {"a", "b", "c"};
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i].size() < 5)
      for (const char c : {'a', 'b', 'c'}) tokens.push_back(tokens[i] + c);
  json model = {
      {"type", "BPE"}, {"unk_token", "a"}, {"merges", json::array()}, {"vocab", json::object()}};
  for (const std::string& token : tokens) model["vocab"][token] = model["vocab"].size();
  std::set<std::string> seen;
  while (seen.size() < 60) {
    const std::string left = tokens[random() % 39], right = tokens[random() % 39];
    if (left.size() + right.size() <= 5 && seen.insert(left + " " + right).second)
      model["merges"].push_back(left + " " + right);
  }
  return model;
}

TEST(Bpe, HeapAgreesWithTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 20; ++round) {
    const json model = random_model(random);
    const Bpe bpe = Bpe::parse(JsonNode(model, "test", "model"), false);
    Bpe::Workspace work;
    for (int i = 0; i < 50; ++i) {
      std::string word;
      for (size_t n = 1 + random() % 30; n > 0; --n) word.push_back("abc"[random() % 3]);
      Ids ids;
      bpe.encode_word(word, work, ids);
      ASSERT_EQ(ids, naive_bpe(model, word)) << word;
    }
  }
}

// n symbols have n - 1 neighbours, and each of at most n - 1 merges makes at most two new pairs:
// the heap never sees more than 3 (n - 1) entries. Wall-clock time says less: caches and load blur
// it.
TEST(Bpe, LongWordsCostLinearlyManyHeapEntries) {
  std::mt19937 random(3);
  const json model = random_model(random);
  const Bpe bpe = Bpe::parse(JsonNode(model, "test", "model"), false);
  Bpe::Workspace work;
  for (const size_t size : {size_t{1'000}, size_t{1'000'000}}) {
    std::string letters;
    while (letters.size() < size) letters.push_back("abc"[random() % 3]);
    for (const std::string& word : {letters, std::string(size, 'a')}) {
      Ids ids;
      bpe.encode_word(word, work, ids);
      EXPECT_LE(work.heap_entries, 3 * (size - 1));
      EXPECT_GE(work.heap_entries, size - ids.size()) << "every merge was an entry";
    }
  }
}

TEST(Tokenizer, AMegabyteOfOneWordOrOfNothingButSpace) {
  constexpr size_t kSize = 1'000'000;
  for (const char* name : {"gpt2", "smollm", "llama3", "qwen2", "llama2"}) {
    const Tokenizer tokenizer = fixture(name);
    for (const std::string& text : {std::string(kSize, 'x'), std::string(kSize, ' '),
                                    std::string(kSize, '\n'), std::string(kSize, '!')}) {
      const Ids ids = tokenizer.encode(text, false);
      EXPECT_EQ(tokenizer.decode(ids, false), text) << name << " " << int{text[0]};
    }
  }
}

}  // namespace
}  // namespace data
