// Invariants of the training loop that catch real trainer bugs.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/kernels/kernels.h"
#include "tests/support/closeness.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"
#include "trainer/checkpoint/checkpoint.h"

namespace trainer {
namespace {

using test_support::Training;

class TrainingLoop : public testing::Test {
 protected:
  void SetUp() override {
    ag::set_threads(1);
    test_support::write_shard(folder_.path() / "train", 4000, 97);
    config_ = test_support::small_config(folder_.path() / "train.ds");
    model_ = test_support::mla_model("llama-gqa-tied", 2, 5);
  }

  // Every tensor of the registry, as bytes.
  static std::map<std::string, std::vector<float>> state(Training& t) {
    std::map<std::string, std::vector<float>> all;
    for (const ag::Param& p : t.trainer.model().params().all())
      all[p.name] = p.master.to_host<float>();
    return all;
  }

  test_support::TemporaryFolder folder_;
  Config config_;
  model::Model model_;
};

TEST_F(TrainingLoop, LossFallsAndReportsAreFinite) {
  config_.tokens.train_steps = 60;
  config_.optimizer.learning_rate_scheduler.learning_rate = 3e-3;
  Training t(config_, model_);
  const auto reports = t.steps(60);
  EXPECT_LT(reports.back().loss, 0.8 * reports.front().loss);
  EXPECT_EQ(t.trainer.tokens_seen(), 60 * 8 * 12);
}

TEST_F(TrainingLoop, OneMicroBatchOfEightIsEightOfOne) {
  config_.parallelism.reduction_shards = 1;
  std::vector<std::map<std::string, std::vector<float>>> states;
  std::vector<StepReport> first;
  for (const int64_t micro : {1, 8}) {
    config_.tokens.micro_batch_size = micro;
    Training t(config_, model_);
    first.push_back(t.steps(1)[0]);
    states.push_back(state(t));
  }
  // The same 96 losses and gradients in another order of summation: eps_f32 times a sum of 96
  // terms.
  EXPECT_NEAR(first[0].loss, first[1].loss, 1.2e-7 * std::sqrt(96.0) * first[0].loss * 4);
  EXPECT_NEAR(first[0].gradient_norm, first[1].gradient_norm, 1.2e-7 * 96 * first[0].gradient_norm);
  // Adam's first update is +-lr wherever the gradient is not zero: a sign that rounding may flip
  // costs 2 lr.
  for (const auto& [name, values] : states[0])
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(values[i], states[1][name][i],
                  2.01 * config_.optimizer.learning_rate_scheduler.learning_rate);
}

TEST_F(TrainingLoop, RecomputeKeepsTheBits) {
  std::vector<std::map<std::string, std::vector<float>>> states;
  for (const char* recompute : {"none", "attention", "block"}) {
    config_.parallelism.recompute = recompute;
    Training t(config_, model_);
    t.steps(3);
    states.push_back(state(t));
  }
  EXPECT_EQ(states[0], states[1]);
  EXPECT_EQ(states[0], states[2]);
}

TEST_F(TrainingLoop, FrozenParametersKeepTheirBits) {
  config_.model.trainable = "attention";
  Training t(config_, model_);
  const auto before = state(t);
  t.steps(3);
  const auto after = state(t);
  int64_t moved = 0;
  for (const auto& [name, values] : before) {
    const bool trainable =
        name.find("attn") != std::string::npos || name.find("norm") != std::string::npos;
    EXPECT_EQ(values != after.at(name), trainable) << name;
    moved += trainable;
  }
  EXPECT_GT(moved, 0);
}

TEST_F(TrainingLoop, OverfitsOneBatch) {
  // 8 sequences of 12 tokens are one global batch: with as many samples as one batch, every step
  // sees it.
  test_support::write_shard(folder_.path() / "one", 8 * 13, 97);
  config_.data_stages[0].data.dataset.dataset_folder = {(folder_.path() / "one.ds").string()};
  config_.tokens.train_steps = 100;
  config_.optimizer.weight_decay = 0;
  config_.optimizer.learning_rate_scheduler.learning_rate = 1e-2;
  Training t(config_, model_);
  EXPECT_LT(t.steps(100).back().loss, 0.01);
}

TEST_F(TrainingLoop, AllocatesNothingAfterTheSecondStep) {
  Training t(config_, model_);
  t.steps(2);
  const int64_t allocations = ag::Pool::statistics().os_allocations;
  t.steps(3);
  EXPECT_EQ(ag::Pool::statistics().os_allocations, allocations);
}

TEST_F(TrainingLoop, NonFiniteGradientStopsBeforeTheUpdateAndNamesTheTensor) {
  Training t(config_, model_);
  ag::Param& up = t.trainer.model().params().at("layers.1.mlp.up.weight");
  std::vector<float> poisoned = up.master.to_host<float>();
  poisoned[3] = std::numeric_limits<float>::infinity();
  up.master.copy_from(poisoned.data());
  const auto before = state(t);
  try {
    t.trainer.step();
    FAIL() << "the step went through";
  } catch (const core::Error& e) {
    EXPECT_EQ(e.code(), core::ExitCode::kNumerical);
    EXPECT_NE(std::string(e.what()).find("gradient of "), std::string::npos) << e.what();
  }
  EXPECT_EQ(state(t), before);
}

class Resume : public TrainingLoop {
 protected:
  void SetUp() override {
    TrainingLoop::SetUp();
    config_.checkpoints.on_nan = "skip";
  }
  // Two updates between a skipped and a forgotten step: what only bad steps change counts too.
  static void first_steps(Training& t) {
    ag::Param& up = t.trainer.model().params().at("layers.1.mlp.up.weight");
    const std::vector<float> good = up.master.to_host<float>();
    std::vector<float> poisoned = good;
    poisoned[3] = std::numeric_limits<float>::infinity();
    up.master.copy_from(poisoned.data());
    EXPECT_EQ(t.trainer.step().outcome, StepOutcome::skipped);
    up.master.copy_from(good.data());
    t.trainer.forget_and_skip(4, 4);
    t.steps(3);
  }
  // State after the first 4 steps, a save, a load into a fresh trainer that forgets `skipped`, and
  // 3 more steps.
  std::string resumed(const std::set<std::string>& skipped, const fs::path& directory) {
    {
      Training t(config_, model_);
      first_steps(t);
      save(t, directory);
    }
    // The fresh trainer starts from other numbers, so that what is not restored shows.
    model::Model other = test_support::mla_model("llama-gqa-tied", 2, 5);
    for (auto& [name, tensor] : other.weights) {
      std::vector<float> values = tensor.to_host<float>();
      for (float& v : values) v = v * 1.5F + 0.01F;
      tensor = ag::Tensor::from_host<float>(tensor.shape(), values);
    }
    Training t(config_, other);
    t.trainer.registry().skip_on_load_for_testing(skipped);
    load_checkpoint(directory / "step-000000004", t.trainer.registry());
    t.trainer.refresh_after_load();
    t.steps(3);
    return fingerprint(t, directory);
  }
  std::string unbroken(const fs::path& directory) {
    Training t(config_, model_);
    first_steps(t);
    t.steps(3);
    return fingerprint(t, directory);
  }
  // The state block of a checkpoint: hashes of all tensors, and all values.
  static std::string fingerprint(Training& t, const fs::path& directory) {
    return format_state(read_manifest(save(t, directory).path));
  }
  static SavedCheckpoint save(Training& t, const fs::path& directory) {
    return save_checkpoint(directory, t.trainer.registry().view(),
                           {.step = t.trainer.step_number(), .config = "x"});
  }
};

TEST_F(Resume, IsBitIdentical) {
  EXPECT_EQ(resumed({}, folder_.path() / "a"), unbroken(folder_.path() / "b"));
}

TEST_F(Resume, EveryEntryOfTheRegistryMatters) {
  const std::string want = unbroken(folder_.path() / "want");
  std::vector<std::string> entries;
  {
    Training t(config_, model_);
    for (const std::string& name : t.trainer.registry().names())
      if (!t.trainer.registry().is_constant(name)) entries.push_back(name);
  }
  ASSERT_GT(entries.size(), 40U);
  for (const std::string& name : entries)
    EXPECT_NE(resumed({name}, folder_.path() / "mutants"), want)
        << "a trainer that forgets " << name;
}

TEST_F(Resume, OtherDataUnderTheSameNameIsRefused) {
  Training t(config_, model_);
  t.steps(2);
  save(t, folder_.path() / "a");
  test_support::write_shard(folder_.path() / "train", 4100, 97);
  Training other(config_, model_);
  EXPECT_THROW(load_checkpoint(folder_.path() / "a/step-000000002", other.trainer.registry()),
               core::Error);
}

}  // namespace
}  // namespace trainer
