// Every line of the fixtures (written by Hugging Face tokenizers): ids, ids without template, and
// both decodings, exactly.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "data/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace data {
namespace {

using Ids = std::vector<uint32_t>;

struct Case {
  std::string text, decoded, decoded_skip_special;
  Ids ids, ids_no_special;
};

std::string folder(const std::string& name) {
  return std::string(MHA2MLA_TEST_DATA) + "/tokenizer-" + name;
}

std::vector<Case> read_cases(const std::string& name) {
  std::vector<Case> cases;
  std::ifstream file(folder(name) + "/cases.jsonl");
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = nlohmann::json::parse(line);
    cases.push_back({json.at("text"), json.at("decoded"), json.at("decoded_skip_special"),
                     json.at("ids"), json.at("ids_no_special")});
  }
  return cases;
}

class TokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerGolden, EveryLineOfTheFixture) {
  const Tokenizer tokenizer = Tokenizer::load(folder(GetParam()));
  const std::vector<Case> cases = read_cases(GetParam());
  ASSERT_GE(cases.size(), 100u);
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::PrintToString(c.text));
    EXPECT_EQ(tokenizer.encode(c.text, true), c.ids);
    EXPECT_EQ(tokenizer.encode(c.text, false), c.ids_no_special);
    EXPECT_EQ(tokenizer.decode(c.ids_no_special, false), c.decoded);
    EXPECT_EQ(tokenizer.decode(c.ids, true), c.decoded_skip_special);
  }
}

TEST_P(TokenizerGolden, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = Tokenizer::load(folder(GetParam()));
  const std::vector<Case> cases = read_cases(GetParam());
  std::vector<size_t> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < wrong.size(); ++t)
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 3 * cases.size(); ++i) {
          const Case& c = cases[(i * (t + 1)) % cases.size()];
          wrong[t] += tokenizer.encode(c.text, true) != c.ids;
        }
      });
  }
  EXPECT_EQ(wrong, std::vector<size_t>(4, 0));
}

// Longer texts than the fixture's; bench/tokenizer_bench.cpp does the same for any file.
TEST_P(TokenizerGolden, TheDocumentationRoundTrips) {
  const Tokenizer tokenizer = Tokenizer::load(folder(GetParam()));
  size_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MHA2MLA_SOURCE_DIR "/docs")) {
    if (entry.path().extension() != ".md") continue;
    const std::string text = test_support::slurp(entry.path());
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text, false), false) == text) << entry.path();
    bytes += text.size();
  }
  EXPECT_GT(bytes, 100'000u);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden,
                         testing::Values("gpt2", "smollm", "llama3", "qwen2", "llama2"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace data
