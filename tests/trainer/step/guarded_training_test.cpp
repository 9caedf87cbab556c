// The trainer under its guard: what a bad step leaves of the run, on the way and after a resume.
// NaN comes from a weight that is set to infinity, a spike from one data stage of a single step
// whose shard is unlike the rest.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "autograd/kernels/kernels.h"
#include "data/shard_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/replica_check.h"

namespace trainer {
namespace {

using core::ExitCode;
using test_support::expect_refusal;
using test_support::Training;

constexpr int64_t kVocab = 97;

class GuardedTraining : public testing::Test {
 protected:
  void SetUp() override {
    ag::set_threads(1);
    test_support::write_shard(folder_.path() / "train", 4000, kVocab);
    config_ = test_support::small_config(folder_.path() / "train.ds");
    config_.tokens.train_steps = 120;
    model_ = test_support::mla_model("llama-gqa-tied", 2, 5);
  }

  // Sets one weight, as a flipped bit of the exponent would; returns what it was.
  static float set_weight(Training& t, float value) {
    ag::Param& up = t.trainer.model().params().at("layers.1.mlp.up.weight");
    std::vector<float> values = up.master.to_host<float>();
    std::swap(values[3], value);
    up.master.copy_from(values.data());
    return value;
  }
  static StepReport poisoned_step(Training& t) {
    const float good = set_weight(t, std::numeric_limits<float>::infinity());
    const StepReport report = t.trainer.step();
    set_weight(t, good);
    return report;
  }
  // Tensors of parameters and moments, without the counters.
  static std::vector<std::string> tensors(Training& t) {
    std::vector<std::string> hashes = digest_entries(t.trainer.registry()).hashes;
    hashes.pop_back();
    return hashes;
  }
  fs::path save(Training& t, const std::string& name) const {
    return save_checkpoint(folder_.path() / name, t.trainer.registry().view(),
                           {.step = t.trainer.step_number(), .config = "x"})
        .path;
  }
  // All steps read one batch, which is soon known by heart; step `bad` alone reads ids at random.
  void set_outlier(int64_t bad) {
    test_support::write_shard(folder_.path() / "train", 8 * 13, kVocab);
    std::mt19937 random(3);
    std::vector<uint32_t> ids;
    for (int i = 0; i < 1000; ++i) ids.push_back(static_cast<uint32_t>(random() % kVocab));
    data::ShardOrigin origin;
    origin.vocab_size = kVocab;
    data::ShardWriter writer(folder_.path() / "outlier", origin);
    writer.append(ids);
    writer.finish();
    DataStageConfig outlier = config_.data_stages[0], after = config_.data_stages[0];
    outlier.name = "outlier";
    outlier.start_training_step = bad;
    outlier.data.dataset.dataset_folder = {(folder_.path() / "outlier.ds").string()};
    after.name = "after";
    after.start_training_step = bad + 1;
    config_.data_stages.insert(config_.data_stages.end(), {outlier, after});
    config_.optimizer.learning_rate_scheduler.learning_rate = 1e-2;
  }

  test_support::TemporaryFolder folder_;
  Config config_;
  model::Model model_;
};

// NU01, NU02
TEST_F(GuardedTraining, SkippedStepCountsAndChangesNoTensor) {
  config_.checkpoints.on_nan = "skip";
  Training t(config_, model_);
  t.steps(2);
  const auto before = tensors(t);
  const StepReport bad = poisoned_step(t);
  EXPECT_EQ(bad.outcome, StepOutcome::skipped);
  EXPECT_EQ(bad.step, 3);
  EXPECT_NE(bad.note.find("step 3: "), std::string::npos) << bad.note;
  EXPECT_NE(bad.note.find("skipped, 1 in a row, 1 in all"), std::string::npos) << bad.note;
  EXPECT_EQ(tensors(t), before);
  EXPECT_EQ(t.trainer.step_number(), 3);
  EXPECT_EQ(t.trainer.tokens_seen(), 3 * 8 * 12);
  EXPECT_EQ(t.trainer.registry().values().at("optimizer.steps"), 2);
  EXPECT_EQ(t.trainer.registry().values().at("guard.losses").size(), 2U);
  const StepReport good = t.trainer.step();
  EXPECT_EQ(good.outcome, StepOutcome::applied);
  EXPECT_EQ(good.step, 4);
  EXPECT_NE(tensors(t), before);
}

TEST_F(GuardedTraining, TooManySkipsInARowNameTheStepsAndTheTensor) {
  config_.checkpoints.on_nan = "skip";
  config_.checkpoints.max_skipped_steps = 2;
  Training t(config_, model_);
  t.steps(1);
  poisoned_step(t);
  poisoned_step(t);
  expect_refusal(ExitCode::kNumerical, "steps 2 to 4: error: gradient of ",
                 [&] { poisoned_step(t); });
}

// The next steps are what they would have been: data and learning rate follow from the step alone.
TEST_F(GuardedTraining, StepsAfterASkippedOneKeepTheirDataAndLearningRate) {
  config_.checkpoints.on_nan = "skip";
  config_.optimizer.learning_rate_scheduler.lr_warmup_steps = 10;
  Training plain(config_, model_), skipping(config_, model_);
  const auto reports = plain.steps(4);
  poisoned_step(skipping);
  for (int64_t step = 2; step <= 4; ++step) {
    const StepReport report = skipping.trainer.step();
    EXPECT_EQ(report.learning_rate, reports[static_cast<size_t>(step - 1)].learning_rate);
  }
  // An update later, the run that skipped the first is where the other was on other data.
  Training first(config_, model_);
  first.trainer.forget_and_skip(1, 1);
  first.steps(4);
  EXPECT_EQ(tensors(first), tensors(skipping));
}

TEST_F(GuardedTraining, RollbackLeavesTheBadStepsOutAndChangesNothingElse) {
  config_.checkpoints.on_nan = "rollback";
  config_.checkpoints.rollback_skip_steps = 2;
  Training t(config_, model_);
  t.steps(3);
  const fs::path checkpoint = save(t, "run");
  t.steps(3);
  const auto before = tensors(t);
  const auto values = t.trainer.registry().values();
  const StepReport bad = poisoned_step(t);
  EXPECT_EQ(bad.outcome, StepOutcome::rollback);
  EXPECT_EQ(bad.step, 7);
  EXPECT_EQ(tensors(t), before);
  EXPECT_EQ(t.trainer.registry().values(), values);

  t.trainer.roll_back(bad, checkpoint);
  EXPECT_EQ(t.trainer.step_number(), 3);
  const auto again = t.steps(6);
  const std::vector<StepOutcome> want = {StepOutcome::applied,   StepOutcome::applied,
                                         StepOutcome::forgotten, StepOutcome::forgotten,
                                         StepOutcome::applied,   StepOutcome::applied};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(again[i].outcome, want[i]) << again[i].step;
  EXPECT_TRUE(std::isnan(again[2].loss));

  Training never(config_, model_);
  never.trainer.forget_and_skip(6, 7);
  never.steps(9);
  EXPECT_EQ(tensors(never), tensors(t));
}

TEST_F(GuardedTraining, RollbackDoesNotReachBehindTheCheckpoint) {
  config_.checkpoints.on_nan = "rollback";
  Training t(config_, model_);
  t.steps(3);
  const fs::path checkpoint = save(t, "run");
  t.steps(1);
  t.trainer.roll_back(poisoned_step(t), checkpoint);
  EXPECT_EQ(t.trainer.registry().values().at("guard.forgotten").dump(), "[[4,5]]");
}

TEST_F(GuardedTraining, RollbackWithoutACheckpointAndOneTooManyStop) {
  config_.checkpoints.on_nan = "rollback";
  config_.checkpoints.rollback_skip_steps = 1;
  Training t(config_, model_);
  expect_refusal(ExitCode::kNumerical, "step 1: error: rollback: expected a checkpoint",
                 [&] { t.trainer.roll_back(poisoned_step(t), {}); });
  t.steps(1);
  const fs::path checkpoint = save(t, "run");
  const auto roll_back = [&] {
    while (t.trainer.guard().is_forgotten(t.trainer.step_number() + 1)) t.trainer.step();
    t.trainer.roll_back(poisoned_step(t), checkpoint);
  };
  for (int i = 0; i < StepGuard::kMaxRollbacks; ++i) roll_back();
  EXPECT_EQ(t.trainer.registry().values().at("guard.forgotten").dump(), "[[2,6]]");
  expect_refusal(ExitCode::kNumerical, "rollback: expected at most 5 in a run", roll_back);
}

// NU03
TEST_F(GuardedTraining, OutlierOfTheDataIsASpikeAndNormalTrainingIsNone) {
  config_.checkpoints.on_spike = "warn";
  config_.checkpoints.spike_z_score = 4;
  Training normal(config_, model_);
  for (const StepReport& report : normal.steps(120)) EXPECT_TRUE(report.note.empty());
  set_outlier(60);
  Training t(config_, model_);
  for (const StepReport& report : t.steps(62))
    EXPECT_EQ(!report.note.empty(), report.step == 60) << report.step << " " << report.note;
}

TEST_F(GuardedTraining, SkippedSpikeIsAsIfTheStepHadBeenLeftOut) {
  set_outlier(60);
  config_.checkpoints.on_spike = "skip";
  config_.checkpoints.spike_z_score = 4;
  Training t(config_, model_), without(config_, model_);
  without.trainer.forget_and_skip(60, 60);
  t.steps(62);
  without.steps(62);
  EXPECT_EQ(t.trainer.guard().skipped_steps(), 1);
  EXPECT_EQ(tensors(t), tensors(without));
}

TEST_F(GuardedTraining, GuardJudgesTheSameAfterAResume) {
  set_outlier(60);
  config_.checkpoints.on_spike = "skip";
  config_.checkpoints.spike_z_score = 4;
  Training unbroken(config_, model_);
  unbroken.steps(62);
  Training first(config_, model_);
  first.steps(45);  // the window is the shorter part of the run
  const fs::path checkpoint = save(first, "run");
  Training second(config_, model_);
  load_checkpoint(checkpoint, second.trainer.registry());
  second.trainer.refresh_after_load();
  second.steps(17);
  EXPECT_EQ(state_digest(second.trainer.registry()), state_digest(unbroken.trainer.registry()));
  // And what is forgotten of it shows: without its window the spike would pass.
  Training mutant(config_, model_);
  mutant.trainer.registry().skip_on_load_for_testing({"guard.losses"});
  load_checkpoint(checkpoint, mutant.trainer.registry());
  mutant.trainer.refresh_after_load();
  mutant.steps(17);
  EXPECT_EQ(mutant.trainer.guard().skipped_steps(), 0);
  EXPECT_NE(tensors(mutant), tensors(unbroken));
}

}  // namespace
}  // namespace trainer
