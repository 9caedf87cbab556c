// A run as a whole, in one process: what it leaves in its folder when it is started again, set
// back, or fails.
#include "trainer/run/training_run.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "autograd/kernels/kernels.h"
#include "core/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"

namespace trainer {
namespace {

using nlohmann::json;

class Run : public testing::Test {
 protected:
  void SetUp() override {
    test_support::write_shard(folder_.path() / "train", 4000, 97);
    const std::string shard = (folder_.path() / "train.ds").string();
    const std::string model = test_support::fixture_path("llama-gqa-tied").string();
    options_.config = folder_.write(
        "run.yaml",
        fmt::format(
            "general: {{project: p, run: r, output_dir: {}}}\n"
            "model: {{init_from: {}, dtype: float32}}\n"
            "mla: {{rope: {{strategy: 2-norm, rope_pairs_per_head: 2}}, latent: {{method: joint, "
            "latent_dims_per_kv_head: 4}}, calibration: {{windows: 4}}}}\n"
            "data_stages: [{{name: main, start_training_step: 1, data: {{dataset: "
            "{{dataset_folder: [{}]}}}}}}]\n"
            "validation: {{sets: {{held: {}}}, windows_per_set: 2}}\n"
            "tokens: {{sequence_length: 12, micro_batch_size: 2, global_batch_size: 4, "
            "train_steps: 4, val_check_interval: 2}}\n"
            "parallelism: {{threads_per_rank: 1, reduction_shards: 2}}\n"
            "checkpoints: {{checkpoint_interval: 1, keep_last: 10}}\n"
            "logging: {{iteration_step_info_interval: 1}}\n",
            folder_.path().string(), model, shard, shard));
  }

  json train(const std::vector<std::string>& overrides = {}, const std::string& resume = "auto") {
    TrainOptions options = options_;
    options.overrides = overrides;
    options.resume = resume;
    Session session{.comm = test_support::the_comm(), .json = true};
    return TrainingRun(load_config(options.config, overrides), options, session).execute();
  }
  fs::path path(const std::string& name) const { return folder_.path() / "p/r" / name; }
  fs::path checkpoint(int64_t step) const {
    return path("checkpoints") / fmt::format("step-{:09}", step);
  }
  json status() const { return json::parse(core::read_text(path("status.json"))); }
  // "type step" of each line of the metrics; those of checkpoints, which come when the writer is
  // done, left out.
  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    std::istringstream text(core::read_text(path("metrics.jsonl")));
    for (std::string line; std::getline(text, line);) {
      const json entry = json::parse(line);
      if (entry["type"] == "ckpt") continue;
      result.push_back(entry["type"].get<std::string>() + " " + entry["step"].dump());
    }
    return result;
  }

  const std::vector<std::string> whole_run_ = {"val 0",   "train 1", "val 2", "train 2",
                                               "train 3", "train 4", "val 4"};
  test_support::TemporaryFolder folder_;
  TrainOptions options_;
};

TEST_F(Run, FinishedRunReturnsItsResultAndStaysAsItIs) {
  const json first = train();
  EXPECT_EQ(lines(), whole_run_);
  EXPECT_TRUE(first.contains("tokens_per_second"));
  const std::string stored = core::read_text(path("result.json"));
  EXPECT_EQ(train(), first);
  EXPECT_EQ(core::read_text(path("result.json")), stored);
  EXPECT_EQ(lines(), whole_run_);
  EXPECT_EQ(status()["state"], "done");
}

TEST_F(Run, OtherValidationOfAFinishedRunIsMeasuredAndKeepsTheSpeed) {
  const json first = train();
  const json again = train({"validation.windows_per_set=3"});
  EXPECT_NE(again["validation"]["recovered"], first["validation"]["recovered"]);
  EXPECT_EQ(again["validation"]["converted"], first["validation"]["converted"]);
  for (const char* key : {"tokens_per_second", "seconds", "ranks", "threads_per_rank"})
    EXPECT_EQ(again[key], first[key]) << key;
}

TEST_F(Run, InterruptedRunEndsAsTheUnbrokenOne) {
  const json whole = train();
  const std::string manifest = core::read_text(checkpoint(4) / "state-00001-of-00001.h5");
  // As after a kill between the checkpoint of step 3 and the next: later lines are written again.
  fs::remove(path("result.json"));
  fs::remove_all(checkpoint(4));
  const json resumed = train();
  EXPECT_EQ(lines(), whole_run_);
  EXPECT_EQ(resumed["validation"], whole["validation"]);
  EXPECT_EQ(core::read_text(checkpoint(4) / "state-00001-of-00001.h5"), manifest);
}

TEST_F(Run, KilledBeforeItsResultDoesNotValidateTwice) {
  const json whole = train();
  fs::remove(path("result.json"));
  EXPECT_EQ(train()["validation"], whole["validation"]);
  EXPECT_EQ(lines(), whole_run_);
}

TEST_F(Run, StartedAnewBeforeTheFirstCheckpointLeavesNoLineTwice) {
  train();
  fs::remove_all(path("checkpoints"));
  train();
  EXPECT_EQ(lines(), whole_run_);
}

TEST_F(Run, SetBackMovesLaterCheckpointsAside) {
  train();
  train({"tokens.train_steps=3"}, checkpoint(2).string());
  EXPECT_FALSE(fs::exists(checkpoint(4)));
  EXPECT_TRUE(fs::exists(path("checkpoints/quarantine/step-000000004/MANIFEST.json")));
  EXPECT_EQ(lines().back(), "val 3");
  EXPECT_EQ(core::read_text(path("checkpoints/LATEST")), "step-000000003\n");
}

TEST_F(Run, ConversionIsMadeAgainWhenItsDataChanged) {
  train({"tokens.train_steps=1"});
  fs::remove_all(path("checkpoints"));
  const std::string before = core::read_text(path("converted/MANIFEST.json"));
  train({"tokens.train_steps=1"});
  EXPECT_EQ(core::read_text(path("converted/MANIFEST.json")), before);
  fs::remove_all(path("checkpoints"));
  train({"tokens.train_steps=1", "data_stages.0.data.seed=7"});
  EXPECT_NE(core::read_text(path("converted/MANIFEST.json")), before);
}

TEST_F(Run, ResumeUsesTheConversionThatItStartedFrom) {
  train({"tokens.train_steps=2"});
  const std::string before = core::read_text(path("converted/MANIFEST.json"));
  train({"validation.windows_per_set=3"});
  EXPECT_EQ(core::read_text(path("converted/MANIFEST.json")), before);
}

TEST_F(Run, FailureIsLeftInTheStatusAndTheRunAsItWas) {
  train();
  const std::string config = core::read_text(path("config.resolved.yaml"));
  const auto expect_failure = [&](core::ExitCode code, const std::string& text, auto&& run) {
    EXPECT_THROW(run(), core::Error);
    const json now = status();
    EXPECT_EQ(now["state"], "failed");
    EXPECT_EQ(now["exit_code"], static_cast<int>(code));
    EXPECT_NE(now["message"].get<std::string>().find(text), std::string::npos) << now;
  };
  expect_failure(core::ExitCode::kRunLocked, "--resume none", [&] { train({}, "none"); });
  expect_failure(core::ExitCode::kBadConfig, "learning_rate",
                 [&] { train({"optimizer.learning_rate_scheduler.learning_rate=0.5"}); });
  EXPECT_EQ(core::read_text(path("config.resolved.yaml")), config);
}

}  // namespace
}  // namespace trainer
