// A configuration written out, and what may change between two starts of a run.
#include "trainer/config/config.h"

#include <gtest/gtest.h>

#include "tests/trainer/config/config_case.h"

namespace trainer {
namespace {

using namespace config_case;

const std::vector<std::string> kOdd = {"general.run=\"no: #1 \\\"é\\\"\"",
                                       "mla.rope.rope_pairs_per_head=3",
                                       "mla.latent.latent_dims_per_kv_head=5",
                                       "mla.calibration.data=c.ds",
                                       "validation.sets.code=a b.ds",
                                       "parallelism.threads_per_rank=3",
                                       "optimizer.optimizer_factory.adam_eps=1.25e-300",
                                       "general.project=\"-\""};

TEST(ConfigDump, ResolvedIsAFixedPoint) {
  for (const Config& c : {parse(kMinimal), parse(kMinimal, kOdd),
                          load_config(MHA2MLA_SOURCE_DIR "/configs/tiny.yaml")}) {
    const std::string text = dump_resolved(c);
    const Config again = parse_config(text, "/elsewhere/config.resolved.yaml");
    EXPECT_EQ(again, c) << text;
    EXPECT_EQ(dump_resolved(again), text);
  }
}

TEST(ConfigDump, DefaultsAreYamlThatOnlyLacksWhatIsRequired) {
  const std::string text = defaults_yaml();
  EXPECT_CONTAINS(text, "adam_eps: 1.0e-08");
  EXPECT_CONTAINS(text, "  sequence_length: 2048");
  EXPECT_CONTAINS(text, "# tokens per sequence\n");
  const Config c = parse(text, {"model.init_from=m", "tokens.train_steps=100", "mla=null",
                                "data_stages.0.data.dataset.dataset_folder=/home/ann/a.ds",
                                "model.init_from=/home/ann/model"});
  EXPECT_EQ(c, parse(kMinimal));
}

TEST(ConfigChanges, TrajectoryKeysAreNamedWithBothValues) {
  const Config saved = parse(kMinimal);
  const Config now = parse(kMinimal, {"tokens.micro_batch_size=8",
                                      "optimizer.learning_rate_scheduler.learning_rate=0.5"});
  EXPECT_EQ(
      incompatible_changes(saved, now),
      (std::vector<std::string>{"optimizer.learning_rate_scheduler.learning_rate: 0.0001 -> 0.5",
                                "tokens.micro_batch_size: 4 -> 8"}));
  EXPECT_TRUE(incompatible_changes(saved, saved).empty());
}

TEST(ConfigChanges, FreeKeysDoNotCount) {
  const Config saved = parse(kMinimal);
  const Config now =
      parse(kMinimal,
            {"general.run=other", "general.output_dir=/x", "logging.iteration_step_info_interval=1",
             "checkpoints.checkpoint_interval=1", "tokens.val_check_interval=3",
             "parallelism.recompute=block", "parallelism.threads_per_rank=2"});
  EXPECT_TRUE(incompatible_changes(saved, now).empty());
  EXPECT_EQ(reported_changes(saved, now),
            std::vector<std::string>{"parallelism.threads_per_rank: auto -> 2"});
}

TEST(ConfigChanges, GeneralSeedIsThatOfStagesThatNameNone) {
  const Config saved = parse(kMinimal), now = parse(kMinimal, {"general.seed=7"});
  EXPECT_EQ(now.data_stages[0].data.seed, 7);
  EXPECT_EQ(incompatible_changes(saved, now),
            std::vector<std::string>{"data_stages.0.data.seed: 42 -> 7"});
  const std::string own = "data_stages.0.data.seed=42";
  EXPECT_EQ(parse(kMinimal, {"general.seed=7", own}).data_stages[0].data.seed, 42);
  EXPECT_TRUE(incompatible_changes(saved, parse(kMinimal, {"general.seed=7", own})).empty());
}

TEST(ConfigChanges, MoreStepsAreFineWhileTheScheduleStays) {
  const std::string start = "optimizer.learning_rate_scheduler.lr_decay_starting_step=";
  const Config saved = parse(kMinimal, {start + "100"});
  const Config longer = parse(kMinimal, {start + "100", "tokens.train_steps=200"});
  EXPECT_TRUE(incompatible_changes(saved, longer).empty());
  EXPECT_EQ(reported_changes(saved, longer),
            std::vector<std::string>{"tokens.train_steps: 100 -> 200"});
  const Config moved = parse(kMinimal, {"tokens.train_steps=200"});  // the decay moves along
  EXPECT_EQ(incompatible_changes(saved, moved).size(), 1u);
}

TEST(ConfigChanges, MovedFilesAreReportedAndReplacedOnesRefused) {
  const Config saved = parse(kMinimal);
  const std::string folder = "data_stages.0.data.dataset.dataset_folder=";
  const Config moved = parse(kMinimal, {folder + "/disk2/a.ds"});
  EXPECT_TRUE(incompatible_changes(saved, moved).empty());
  EXPECT_EQ(reported_changes(saved, moved),
            std::vector<std::string>{"data_stages.0.data.dataset.dataset_folder: "
                                     "[/home/ann/a.ds] -> [/disk2/a.ds]"});
  EXPECT_EQ(incompatible_changes(saved, parse(kMinimal, {folder + "/home/ann/b.ds"})).size(), 1u);
}

}  // namespace
}  // namespace trainer
