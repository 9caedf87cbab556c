// Cutting before byte-pair encoding changes nothing: pieces against the word as a whole.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "data/bpe.h"

namespace data {
namespace {

using nlohmann::json;
using Ids = std::vector<uint32_t>;
using Strings = std::vector<std::string>;

const std::string kMark = "\u2581";

Bpe parse(const json& model) { return Bpe::parse(JsonNode(model, "test", "model"), false); }

Strings pieces_of(const Bpe& bpe, const std::string& word) {
  Strings pieces;
  for (size_t begin = 0; begin < word.size();) {
    const size_t end = bpe.next_cut(word, begin);
    pieces.push_back(word.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

Ids whole(const Bpe& bpe, const std::string& word) {
  Bpe::Workspace work;
  Ids ids;
  bpe.encode_word(word, work, ids);
  return ids;
}

Ids in_pieces(const Bpe& bpe, const std::string& word) {
  Ids ids;
  for (const std::string& piece : pieces_of(bpe, word)) {
    const Ids more = whole(bpe, piece);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

json model_of(const Strings& tokens, const Strings& merges) {
  json model = {{"type", "BPE"}, {"merges", merges}, {"vocab", json::object()}};
  for (const std::string& token : tokens)
    if (!model["vocab"].contains(token)) model["vocab"][token] = model["vocab"].size();
  return model;
}

const Strings kCharacters = {"a", "b", "<", ">", kMark, "\u00e9", "\u4e2d"};

// Few merges, so that there is something to cut; some of the characters have no token.
json random_model(std::mt19937& random, bool byte_fallback) {
  Strings tokens = {"<unk>", "?"}, merges;
  if (byte_fallback)
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", byte);
      tokens.push_back(name);
    }
  for (const std::string& c : kCharacters)
    if (random() % 4 > 0) tokens.push_back(c);
  std::set<std::string> seen;
  for (size_t i = 0; i < 8; ++i) {
    const std::string left = tokens[random() % tokens.size()],
                      right = tokens[random() % tokens.size()];
    if (!seen.insert(left + " " + right).second) continue;
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
  }
  json model = model_of(tokens, merges);
  model["byte_fallback"] = byte_fallback;
  model["unk_token"] = tokens[random() % tokens.size()];
  model["fuse_unk"] = random() % 2 == 0;
  return model;
}

TEST(MergeBoundaries, PiecesHaveTheTokensOfTheWhole) {
  std::mt19937 random(5);
  size_t cuts = 0, characters = 0;
  for (int round = 0; round < 300; ++round) {
    const json model = random_model(random, round % 3 == 0);
    const Bpe bpe = parse(model);
    for (int i = 0; i < 20; ++i) {
      std::string word;
      const size_t length = 1 + random() % 12;
      for (size_t n = 0; n < length; ++n) word += kCharacters[random() % kCharacters.size()];
      ASSERT_EQ(in_pieces(bpe, word), whole(bpe, word)) << word << "\n" << model.dump();
      cuts += pieces_of(bpe, word).size() - 1;
      characters += length;
    }
  }
  EXPECT_GT(cuts, characters / 10) << "the test has something to test";
}

TEST(MergeBoundaries, SentencePieceTextFallsIntoWords) {
  std::ifstream file(MHA2MLA_TEST_DATA "/tokenizer-llama2/tokenizer.json");
  const Bpe bpe = parse(json::parse(file).at("model"));
  EXPECT_EQ(pieces_of(bpe, kMark + "The" + kMark + "river" + kMark + "bank"),
            (Strings{kMark + "The", kMark + "river", kMark + "bank"}));
}

TEST(MergeBoundaries, AMergeAcrossTheMarkJoins) {
  const json model = model_of({"<unk>", "a", "b", kMark, "a" + kMark, "a" + kMark + "b"},
                              {"a " + kMark, "a" + kMark + " b"});
  json known = model;
  known["unk_token"] = "<unk>";
  const Bpe bpe = parse(known);
  const std::string word = "ba" + kMark + "ba";
  EXPECT_EQ(pieces_of(bpe, word), (Strings{"b", "a" + kMark + "b", "a"}));
  EXPECT_EQ(in_pieces(bpe, word), whole(bpe, word));
}

TEST(MergeBoundaries, ModelsThatLookUpWholeWordsAreNotCut) {
  json model = model_of({"<unk>", "a", "b", "ab"}, {});
  model["unk_token"] = "<unk>";
  EXPECT_EQ(pieces_of(parse(model), "ab"), (Strings{"a", "b"}));
  model["ignore_merges"] = true;
  EXPECT_EQ(pieces_of(parse(model), "ab"), Strings{"ab"});
}

}  // namespace
}  // namespace data
