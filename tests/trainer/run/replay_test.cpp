// train --replay on a small run: an intact one is equal, and one changed bit of what was recorded
// is found and named.
#include "trainer/run/replay.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>

#include "core/file.h"
#include "core/stop.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/run/training_run.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;
using test_support::expect_refusal;

class ReplayedRun : public testing::Test {
 protected:
  void SetUp() override {
    test_support::write_shard(folder_.path() / "train", 4000, 97);
    options_.config = folder_.write(
        "run.yaml",
        fmt::format("general: {{project: p, run: r, output_dir: {}}}\n"
                    "model: {{init_from: {}, dtype: float32}}\n"
                    "data_stages: [{{data: {{dataset: {{dataset_folder: [{}]}}}}}}]\n"
                    "tokens: {{sequence_length: 12, micro_batch_size: 2, global_batch_size: 4, "
                    "train_steps: 6}}\n"
                    "parallelism: {{threads_per_rank: 1, reduction_shards: 2}}\n"
                    "checkpoints: {{checkpoint_interval: 2, keep_last: 10}}\n"
                    "logging: {{iteration_step_info_interval: 1}}\n",
                    folder_.path().string(), test_support::fixture_path("llama-gqa-tied").string(),
                    (folder_.path() / "train.ds").string()));
    Session session{.comm = test_support::the_comm(), .json = true};
    TrainingRun(load_config(options_.config), options_, session).execute();
  }

  ReplayResult replayed(int64_t step, const std::string& from = "auto",
                        const std::vector<std::string>& overrides = {}) {
    options_.replay = step;
    options_.resume = from;
    Session session{.comm = test_support::the_comm(), .json = true};
    return replay(load_config(options_.config, overrides), options_, session);
  }
  fs::path run() const { return folder_.path() / "p/r"; }
  fs::path checkpoint(int64_t step) const {
    return run() / fmt::format("checkpoints/step-{:09}", step);
  }
  // The least significant bit of `name` in the line of `step`.
  void flip_recorded(int64_t step, const char* name) {
    std::string text;
    std::istringstream lines(core::read_text(run() / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      json entry = json::parse(line);
      if (entry["type"] == "train" && entry["step"] == step)
        entry[name] = std::bit_cast<double>(std::bit_cast<uint64_t>(entry[name].get<double>()) ^ 1);
      text += entry.dump() + "\n";
    }
    core::write_file_atomically(run() / "metrics.jsonl", text);
  }
  // Every file of the run, with its bytes.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(run()))
      if (entry.is_regular_file()) all[entry.path()] = core::read_text(entry.path());
    return all;
  }

  test_support::TemporaryFolder folder_;
  TrainOptions options_;
};

TEST_F(ReplayedRun, IntactRunIsEqualAndStaysAsItIs) {
  const auto before = files();
  const ReplayResult with_checkpoint = replayed(4);
  EXPECT_EQ(to_json(with_checkpoint).dump(),
            R"({"equal":true,"first_difference":null,"from":2,"step":4,"steps_recomputed":2})");
  EXPECT_EQ(with_checkpoint.lines, 2);
  EXPECT_TRUE(with_checkpoint.checkpoint);
  const ReplayResult between = replayed(5);
  EXPECT_TRUE(between.first_difference.empty()) << between.first_difference;
  EXPECT_EQ(between.from, 4);
  EXPECT_FALSE(between.checkpoint);
  const ReplayResult longer = replayed(6, checkpoint(2));
  EXPECT_TRUE(longer.first_difference.empty()) << longer.first_difference;
  EXPECT_EQ(longer.lines, 4);
  EXPECT_EQ(files(), before);
}

TEST_F(ReplayedRun, OneBitOfARecordedLossOrNormIsFound) {
  flip_recorded(5, "loss");
  const ReplayResult loss = replayed(6);
  EXPECT_EQ(loss.first_difference, "step 5: loss");
  EXPECT_NE(loss.expected, loss.found);
  EXPECT_FALSE(to_json(loss).at("equal"));
  EXPECT_TRUE(replayed(4).first_difference.empty());
  flip_recorded(3, "grad_norm");
  EXPECT_EQ(replayed(4).first_difference, "step 3: grad_norm");
}

// A checkpoint that is whole, but of a state that training did not lead to.
TEST_F(ReplayedRun, OneBitOfACheckpointIsFound) {
  const Config config = load_config(options_.config);
  const std::string resolved = read_manifest(checkpoint(4)).config;
  const model::Model model = model::import_hf(test_support::fixture_path("llama-gqa-tied"));
  test_support::Training t(config, model);
  load_checkpoint(checkpoint(4), t.trainer.registry());
  ag::Param& up = t.trainer.model().params().at("layers.1.mlp.up.weight");
  std::vector<float> values = up.master.to_host<float>();
  values[7] = std::bit_cast<float>(std::bit_cast<uint32_t>(values[7]) ^ 1);
  up.master.copy_from(values.data());
  std::vector<Companion> companions;
  for (const auto& entry : fs::directory_iterator(checkpoint(4)))
    if (entry.path().extension() == ".json" && entry.path().filename() != kManifestName)
      companions.push_back(entry.path());
  const fs::path other = folder_.path() / "other";
  save_checkpoint(other, t.trainer.registry().view(),
                  {.step = 4, .config = resolved, .companions = companions});
  fs::remove_all(checkpoint(4));
  fs::rename(other / "step-000000004", checkpoint(4));
  EXPECT_EQ(replayed(4).first_difference, "step 4: layers.1.mlp.up.weight");
  EXPECT_FALSE(replayed(6).first_difference.empty()) << "steps 5 and 6 start from it";
}

TEST_F(ReplayedRun, DamagedCheckpointIsPassedOverAndStays) {
  core::write_file_atomically(checkpoint(4) / kManifestName, "{}");
  const ReplayResult result = replayed(5);
  EXPECT_EQ(result.from, 2);
  EXPECT_TRUE(result.first_difference.empty()) << result.first_difference;
  EXPECT_TRUE(fs::exists(checkpoint(4)));
}

TEST_F(ReplayedRun, AStopEndsItBetweenTwoSteps) {
  core::request_stop(core::kSaveNow);
  EXPECT_TRUE(replayed(4).first_difference.empty()) << "not a stop";
  core::request_stop(core::kStopTerm);
  expect_refusal(ExitCode::kPreempted, "SIGTERM", [&] { replayed(4); });
  core::reset_stop();
  EXPECT_TRUE(replayed(4).first_difference.empty());
}

TEST_F(ReplayedRun, WhatCannotBeReplayedIsRefused) {
  expect_refusal(ExitCode::kNoValidCheckpoint, "expected a valid checkpoint before step 2",
                 [&] { replayed(2); });
  expect_refusal(ExitCode::kUsage, "expected at most tokens.train_steps = 6, got 7",
                 [&] { replayed(7); });
  expect_refusal(ExitCode::kUsage, "expected a checkpoint before step 4, got step 4",
                 [&] { replayed(4, checkpoint(4)); });
  expect_refusal(ExitCode::kBadConfig, "weight_decay: 0.01 -> 0.5",
                 [&] { replayed(4, "auto", {"optimizer.weight_decay=0.5"}); });
  fs::remove(run() / "metrics.jsonl");
  fs::remove_all(checkpoint(6));
  expect_refusal(ExitCode::kMissingInput, "a line of metrics.jsonl for a step from 5 to 6",
                 [&] { replayed(6); });
}

}  // namespace
}  // namespace trainer
