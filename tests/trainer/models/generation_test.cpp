// Generation from the cache: the golden greedy texts, sampling, and text that arrives in pieces.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/generation.h"

#include <fstream>

#include "core/text.h"
#include "tests/support/mla_golden.h"

namespace {

using namespace trainer;
using test_support::caught;

class GoldenGeneration : public testing::TestWithParam<std::string> {};

TEST_P(GoldenGeneration, GreedyTextsOfTheReference) {
  const auto folder = test_support::fixture_path(GetParam());
  model::Llama llama(model::import_hf(folder), {});
  const ag::Tensor want = test_support::golden(GetParam(), "generated");
  const std::vector<int32_t> rows = want.to_host<int32_t>();
  for (int64_t b = 0; b < want.rows(); ++b) {
    const std::vector<int32_t> row(rows.begin() + b * 20, rows.begin() + (b + 1) * 20);
    Sampler greedy({});
    std::vector<int32_t> streamed;
    const Generation g =
        generate(llama, std::span(row).first(8), model::read_generation_eos(folder), 12, greedy,
                 [&](int32_t id) { streamed.push_back(id); });
    std::vector<int32_t> tokens = g.tokens;
    EXPECT_EQ(g.stop == StopReason::eos, tokens.size() > streamed.size());
    tokens.resize(12, 0);
    EXPECT_EQ(tokens, std::vector<int32_t>(row.begin() + 8, row.end())) << "row " << b;
    EXPECT_EQ(g.cache_bytes_per_token, 4 * llama.spec().cache_elements_per_token());
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenGeneration, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

TEST(Generation, StopsAtEosAtTheLimitAndAtTheEndOfTheContext) {
  model::Llama llama(model::import_hf(test_support::fixture_path("llama-mha")), {});
  const std::vector<int32_t> prompt = {5, 6, 7};
  Sampler greedy({});
  const Generation free = generate(llama, prompt, {}, 1000, greedy);
  EXPECT_EQ(free.stop, StopReason::context);
  // The context holds 64 tokens; one more is predicted from the last of them.
  EXPECT_EQ(free.tokens.size(), 64u - 3 + 1);
  EXPECT_EQ(free.decode_steps, 61);
  EXPECT_GT(free.tokens_per_second(), 0);
  const Generation four = generate(llama, prompt, {}, 4, greedy);
  EXPECT_EQ(four.stop, StopReason::max_new_tokens);
  EXPECT_EQ(four.tokens, std::vector<int32_t>(free.tokens.begin(), free.tokens.begin() + 4));
  const Generation first = generate(llama, prompt, {free.tokens[0]}, 4, greedy);
  EXPECT_EQ(first.stop, StopReason::eos);
  EXPECT_EQ(first.tokens.size(), 1u);
}

TEST(Generation, RefusesPromptsThatDoNotFit) {
  model::Llama llama(model::import_hf(test_support::fixture_path("llama-mha")), {});
  Sampler greedy({});
  const auto run = [&](const std::vector<int32_t>& prompt, int64_t tokens) {
    generate(llama, prompt, {}, tokens, greedy);
  };
  EXPECT_FAILS(kUsage, "at least one token", run({}, 4));
  EXPECT_FAILS(kUsage, "fewer than 64 tokens", run(std::vector<int32_t>(64, 1), 4));
  EXPECT_FAILS(kUsage, "--max-new-tokens", run({1}, 0));
  EXPECT_FAILS(kBadData, "vocabulary", run({97}, 4));
  EXPECT_FAILS(kUsage, "--temperature", Sampler({.temperature = -1}));
  EXPECT_FAILS(kUsage, "--top-p", Sampler({.temperature = 1, .top_p = 0}));
  EXPECT_FAILS(kUsage, "--top-p", Sampler({.temperature = 1, .top_p = 1.5}));
  EXPECT_FAILS(kNumerical, "finite", greedy.pick(std::vector<float>{0, NAN}));
}

TEST(Sampler, GreedyTakesTheSmallestOfEquals) {
  Sampler greedy({});
  EXPECT_EQ(greedy.pick(std::vector<float>{1, 3, 2, 3}), 1);
}

TEST(Sampler, FrequenciesFollowTheTemperatureAndTheNucleus) {
  // Probabilities 1/2, 1/3, 1/6 at temperature 1.
  const std::vector<float> logits = {std::log(2.0f), std::log(6.0f), std::log(4.0f)};
  const auto frequencies = [&](double temperature, double top_p) {
    Sampler sampler({.temperature = temperature, .top_p = top_p, .seed = 1});
    std::vector<double> count(3);
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i)
      count[static_cast<size_t>(sampler.pick(logits))] += 1.0 / kDraws;
    return count;
  };
  // Five standard deviations of 20000 draws: 5 * sqrt(0.25 / 20000).
  const double bound = 0.018;
  const auto expect = [&](const std::vector<double>& got, const std::vector<double>& want) {
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(got[i], want[i], bound) << i;
  };
  expect(frequencies(1, 1), {1.0 / 6, 1.0 / 2, 1.0 / 3});
  expect(frequencies(0.5, 1), {4.0 / 56, 36.0 / 56, 16.0 / 56});
  EXPECT_EQ(frequencies(1, 0.8)[0], 0);
  expect(frequencies(1, 0.8), {0, 0.6, 0.4});
  expect(frequencies(1, 0.4), {0, 1, 0});
}

TEST(Sampler, TheSeedDecides) {
  const std::vector<float> flat(50, 0);
  const auto draw = [&](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.pick(flat));
    return ids;
  };
  EXPECT_EQ(draw(3), draw(3));
  EXPECT_NE(draw(3), draw(4));
}

TEST(TextStream, PiecesAreWholeCharactersAndTheirSumIsTheText) {
  int cut = 0;
  for (const char* name : {"tokenizer-gpt2", "tokenizer-llama2", "tokenizer-smollm"}) {
    const auto folder = test_support::fixture_path(name);
    const data::Tokenizer tokenizer = data::Tokenizer::load(folder);
    std::ifstream cases(folder / "cases.jsonl");
    for (std::string line; std::getline(cases, line);) {
      const std::vector<uint32_t> ids = nlohmann::json::parse(line).at("ids_no_special");
      const size_t prompt = std::min<size_t>(1, ids.size());
      TextStream stream(tokenizer, std::span(ids).first(prompt));
      std::string text;
      for (size_t i = prompt; i < ids.size(); ++i) {
        const std::string piece = stream.add(ids[i]);
        EXPECT_EQ(core::find_invalid_utf8(piece), std::string::npos);
        if (piece.empty()) ++cut;
        text += piece;
      }
      text += stream.finish();
      const std::string whole = tokenizer.decode(ids, true);
      EXPECT_TRUE(whole.ends_with(text)) << name << ": " << text << " of " << whole;
    }
  }
  EXPECT_GT(cut, 0) << "no case had a character cut short";
}

}  // namespace
