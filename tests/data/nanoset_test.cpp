#include "data/nanoset.h"
#include "tests/support/refusal.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/nanoset_stages.h"
#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;

namespace fs = std::filesystem;
using core::ExitCode;

constexpr int64_t kLength = 3;  // S; samples are S + 1 tokens

class NanosetTest : public ShardFiles {
 protected:
  NanosetTest() {
    // Dataset j holds `sizes[j]` samples; sample s begins with id 1000 j + 10 s.
    const std::vector<int> sizes = {7, 5, 4, 3, 2};
    for (size_t j = 0; j < sizes.size(); ++j) {
      std::vector<uint16_t> ids;
      for (int s = 0; s < sizes[j]; ++s)
        for (int t = 0; t <= kLength; ++t)
          ids.push_back(static_cast<uint16_t>(1000 * static_cast<int>(j) + 10 * s + t));
      ids.push_back(9999);  // a tail that must not be read
      folders_.push_back(write_words(std::string(1, static_cast<char>('a' + j)) + ".ds", ids));
    }
  }

  NanosetConfig config(int64_t samples) const {
    return {.folders = folders_,
            .weights = {0.70, 0.15, 0.08, 0.06, 0.01},
            .sequence_length = kLength,
            .seed = 42,
            .vocab_size = 10000,
            .samples_needed = samples};
  }

  BatchPlan plan() const {
    return {.sequence_length = kLength,
            .micro_batch_size = 2,
            .global_batch_size = 6,
            .train_steps = 10,
            .vocab_size = 10000};
  }

  std::vector<fs::path> folders_;
};

std::vector<int32_t> sample_of(const Nanoset& nanoset, int64_t index) {
  std::vector<int32_t> ids(kLength + 1);
  nanoset.sample(index, ids.data());
  return ids;
}

// numpy's order of these datasets, as in mixture_test.cpp.
const std::vector<int> kDataset = {0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 4, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3};
const std::vector<int> kSample = {0, 4, 3, 0, 5, 3, 0, 0, 5, 2, 0, 1, 1, 6, 2, 1, 4, 6, 2, 1, 0};

TEST_F(NanosetTest, SamplesAreThoseOfNanotronInEveryEpoch) {
  const Nanoset nanoset(config(60));
  ASSERT_EQ(nanoset.samples_per_epoch(), 21);
  EXPECT_DOUBLE_EQ(nanoset.epochs(), 60.0 / 21);
  for (int64_t i = 0; i < 60; ++i) {
    const auto k = static_cast<size_t>(i % 21);
    const int first = 1000 * kDataset[k] + 10 * kSample[k];
    EXPECT_EQ(sample_of(nanoset, i), (std::vector<int32_t>{first, first + 1, first + 2, first + 3}))
        << i;
  }
}

TEST_F(NanosetTest, TheOrderDoesNotDependOnHowManySamplesAreNeeded) {
  const Nanoset few(config(5)), many(config(500));
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(sample_of(few, i), sample_of(many, i));
  int32_t ids[kLength + 1];
  expect_refusal(ExitCode::kInternal, {"below 5", "got 5"}, [&] { few.sample(5, ids); });
  expect_refusal(ExitCode::kInternal, "got -1", [&] { few.sample(-1, ids); });
}

TEST_F(NanosetTest, WithoutWeightsEveryDatasetIsReadOncePerEpoch) {
  NanosetConfig even = config(21);
  even.weights.clear();
  const Nanoset nanoset(even);
  std::vector<int64_t> counts(5, 0);
  for (int64_t i = 0; i < 21; ++i) ++counts[static_cast<size_t>(nanoset.origin(i).dataset)];
  EXPECT_EQ(counts, std::vector<int64_t>({7, 5, 4, 3, 2}));
  EXPECT_EQ(nanoset.weights()[0], 7.0 / 21);
}

TEST_F(NanosetTest, RefusesConfigurationsThatMeanNothing) {
  const auto refused = [&](auto change, ExitCode code, std::initializer_list<std::string> parts) {
    NanosetConfig wrong = config(60);
    change(wrong);
    expect_refusal(code, parts, [&] { Nanoset{wrong}; });
  };
  refused([](auto& c) { c.weights = {0.5}; }, ExitCode::kBadConfig, {"5 datasets", "got 1"});
  refused([](auto& c) { c.weights[1] = -1; }, ExitCode::kBadConfig, {"dataset_weights[1]"});
  refused([](auto& c) { c.seed = -1; }, ExitCode::kBadConfig, {"data.seed"});
  refused([](auto& c) { c.seed = int64_t{1} << 32; }, ExitCode::kBadConfig, {"4294967295"});
  refused([](auto& c) { c.folders.clear(); }, ExitCode::kBadConfig, {"dataset_folder"});
  refused([](auto& c) { c.sequence_length = 0; }, ExitCode::kBadConfig, {"sequence_length"});
  refused([](auto& c) { c.sequence_length = INT64_MAX; }, ExitCode::kBadConfig,
          {"sequence_length"});
  refused([](auto& c) { c.sequence_length = 20; }, ExitCode::kBadData,
          {"c.ds", "at least 21", "got 17"});
  refused([](auto& c) { c.folders[3] = c.folders[0]; }, ExitCode::kBadData,
          {"a.ds", "listed twice"});
  refused([](auto& c) { c.samples_needed = 0; }, ExitCode::kBadConfig, {"samples needed"});
}

TEST_F(NanosetTest, ChecksIdsAgainstTheVocabulary) {
  NanosetConfig small = config(21);
  small.vocab_size = 4000;  // dataset 4 begins with 4000
  const Nanoset nanoset(small);
  expect_refusal(ExitCode::kBadData, {"a.ds:token 28:", "got 9999"},
                 [&] { nanoset.check_vocab(9999); });
  EXPECT_NO_THROW(nanoset.check_vocab(10000));
  int32_t ids[kLength + 1];
  expect_refusal(ExitCode::kBadData, {"e.ds:token 0:", "got 4000"},
                 [&] { nanoset.sample(10, ids); });
}

TEST_F(NanosetTest, FingerprintFollowsContentOrderAndWeightsNotThePlace) {
  const std::string original = Nanoset(config(60)).fingerprint();
  EXPECT_EQ(Nanoset(config(7)).fingerprint(), original);
  NanosetConfig other = config(60);
  other.seed = 43;
  EXPECT_NE(Nanoset(other).fingerprint(), original);
  other = config(60);
  std::swap(other.folders[0], other.folders[1]);
  EXPECT_NE(Nanoset(other).fingerprint(), original);
  other = config(60);
  other.weights[4] = 0.02;
  EXPECT_NE(Nanoset(other).fingerprint(), original);
  fs::create_directory(at("moved"));
  other = config(60);
  fs::rename(folders_[2], at("moved/c.ds"));
  other.folders[2] = at("moved/c.ds");
  EXPECT_EQ(Nanoset(other).fingerprint(), original);

  const nlohmann::json description = Nanoset(other).describe();
  EXPECT_EQ(description["fingerprint"], original);
  EXPECT_EQ(description["datasets"][2]["path"], at("moved/c.ds").string());
  EXPECT_EQ(description["datasets"][2]["files"][0]["bytes"], 34);
  EXPECT_EQ(description["datasets"][2]["files"][0]["tokens"], 17);
  EXPECT_EQ(description["datasets"][1]["weight"], 0.15);
}

TEST_F(NanosetTest, MicroBatchesAreAFunctionOfTheStepForAnyNumberOfRanks) {
  const std::vector<DataStage> stages = {{"main", 1, folders_, {0.70, 0.15, 0.08, 0.06, 0.01}, 42}};
  const NanosetStages all(stages, plan());
  const Nanoset nanoset(config(60));
  // Ranks deal the three micro-batches of a step in different ways; the global batch is the same.
  for (const int64_t ranks : {1, 2, 3}) {
    for (int64_t step = 10; step >= 1; --step) {  // backwards: there is no state to carry
      std::vector<int32_t> inputs(6 * kLength), targets(6 * kLength);
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const NanosetStages own(stages, plan());
        for (int64_t m = rank; m < own.micro_batches(); m += ranks)
          own.read_micro_batch(step, m, &inputs[static_cast<size_t>(m * 2 * kLength)],
                               &targets[static_cast<size_t>(m * 2 * kLength)]);
      }
      for (int64_t row = 0; row < 6; ++row) {
        const std::vector<int32_t> ids = sample_of(nanoset, (step - 1) * 6 + row);
        EXPECT_TRUE(std::equal(ids.begin(), ids.end() - 1, inputs.begin() + row * kLength));
        EXPECT_TRUE(std::equal(ids.begin() + 1, ids.end(), targets.begin() + row * kLength));
      }
    }
  }
  EXPECT_EQ(all.micro_batches(), 3);
}

TEST_F(NanosetTest, AStageCountsItsSamplesFromItsOwnStart) {
  write_words<uint16_t>("next.ds", std::vector<uint16_t>(40, 5));
  const NanosetStages stages({{"main", 1, {folders_[0]}, {1.0}, 42},
                              {"decay", 5, {folders_[1], folders_[2]}, {0.5, 0.5}, 7},
                              {"last", 10, {at("next.ds")}, {}, 0}},
                             plan());
  EXPECT_EQ(stages.stage_of(1), 0u);
  EXPECT_EQ(stages.stage_of(4), 0u);
  EXPECT_EQ(stages.stage_of(5), 1u);
  EXPECT_EQ(stages.stage_of(9), 1u);
  EXPECT_EQ(stages.stage_of(10), 2u);
  EXPECT_EQ(stages.nanoset(0).samples_needed(), 24);
  EXPECT_EQ(stages.nanoset(1).samples_needed(), 30);
  EXPECT_EQ(stages.nanoset(2).samples_needed(), 6);
  std::vector<int32_t> inputs(2 * kLength), targets(2 * kLength);
  stages.read_micro_batch(5, 1, inputs.data(), targets.data());
  const std::vector<int32_t> third = sample_of(stages.nanoset(1), 2);
  EXPECT_TRUE(std::equal(third.begin(), third.end() - 1, inputs.begin()));
  EXPECT_EQ(stages.describe()[1]["name"], "decay");
  for (const int64_t step : {0, 11})
    expect_refusal(ExitCode::kInternal, "training step", [&] { stages.stage_of(step); });
  expect_refusal(ExitCode::kInternal, {"micro-batch", "below 3"},
                 [&] { stages.read_micro_batch(1, 3, inputs.data(), targets.data()); });
}

TEST_F(NanosetTest, RefusesStagesThatDoNotFit) {
  const auto refused = [&](const std::vector<int64_t>& starts, auto change,
                           std::initializer_list<std::string> parts) {
    BatchPlan wrong = plan();
    change(wrong);
    std::vector<DataStage> stages;
    for (const int64_t start : starts) stages.push_back({"s", start, {folders_[0]}, {1.0}, 1});
    expect_refusal(ExitCode::kBadConfig, parts, [&] { NanosetStages(stages, wrong); });
  };
  const auto same = [](BatchPlan&) {};
  refused({}, same, {"data_stages", "at least one"});
  refused({2}, same, {"data_stages[0].start_training_step", "expected 1", "got 2"});
  refused({1, 1}, same, {"data_stages[1]"});
  refused({1, 5, 4}, same, {"data_stages[2]", "got 4"});
  refused({1, 11}, same, {"train_steps 10", "got 11"});
  refused({1}, [](BatchPlan& p) { p.micro_batch_size = 0; }, {"micro_batch_size"});
  refused({1}, [](BatchPlan& p) { p.micro_batch_size = 4; }, {"global_batch_size", "multiple"});
  refused({1}, [](BatchPlan& p) { p.train_steps = 0; }, {"train_steps"});
  refused({1}, [](BatchPlan& p) { p.train_steps = INT64_MAX; }, {"train_steps", "2^63"});
  refused({1}, [](BatchPlan& p) { p.global_batch_size = 8; }, {"global batch of 8", "got 7"});
}

}  // namespace
}  // namespace data
