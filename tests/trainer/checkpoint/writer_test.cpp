// Saving beside training: what is saved is the state of the moment, whatever happens to it later.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/writer.h"

#include <limits>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/hash.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using nlohmann::json;

constexpr int64_t kElements = 100'000;  // more than one piece of a snapshot

struct State {
  ag::Tensor weight = ag::Tensor::zeros({kElements}, ag::DType::f32);
  ag::Tensor moment = ag::Tensor::zeros({3}, ag::DType::f64);
  int64_t step = 0;
  StateRegistry registry;

  State() {
    registry.add_tensor("w", weight);
    registry.add_tensor("m", moment);
    registry.add_constant("kept_pairs", {1, 1, 2}, {1, 0});
    registry.add_value(
        "step", [this] { return json(step); }, [this](const json& v) { step = v.get<int64_t>(); });
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  float* values() { return static_cast<float*>(weight.view().data); }
  void advance() {
    ++step;
    for (int64_t i = 0; i < kElements; ++i) values()[i] = static_cast<float>(step * 1000 + i % 7);
  }
};

class CheckpointWriterTest : public ::testing::Test {
 protected:
  ~CheckpointWriterTest() override { core::arm_failpoints(""); }

  CheckpointRequest request(double loss = -1) const {
    CheckpointRequest r{.step = state_.step, .config = "tokens: {train_steps: 9}\n"};
    if (loss >= 0) r.provenance["val_loss"] = loss;
    return r;
  }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> found;
    for (const CheckpointPath& c : find_checkpoints(dir_)) found.push_back(c.step);
    return found;
  }

  TemporaryFolder temporary_;
  fs::path dir_ = temporary_ / "checkpoints";
  State state_;
};

TEST_F(CheckpointWriterTest, SavesTheStateOfTheMoment) {
  CheckpointWriter writer(dir_, state_.registry, {});
  EXPECT_FALSE(writer.wait()) << "nothing is in flight";
  state_.advance();
  const std::string then = core::hash_hex(
      {reinterpret_cast<const std::byte*>(state_.values()), kElements * sizeof(float)});
  core::arm_failpoints("checkpoint.before_write=sleep:50");  // training is faster than the disk
  writer.start(request());
  state_.advance();
  const auto outcome = writer.wait();
  ASSERT_TRUE(outcome && outcome->saved);
  EXPECT_EQ(outcome->step, 1);
  EXPECT_FALSE(writer.poll()) << "an outcome is told once";
  const Manifest manifest = verify_checkpoint(outcome->saved->path, true);
  EXPECT_EQ(manifest.tensors.at("w").hash, then);
  State loaded;
  load_checkpoint(outcome->saved->path, loaded.registry);
  EXPECT_EQ(loaded.step, 1);
  EXPECT_EQ(loaded.values()[5], 1005.0f);
}

TEST_F(CheckpointWriterTest, EqualsASynchronousSave) {
  CheckpointWriter writer(dir_, state_.registry, {});
  state_.advance();
  writer.start(request());
  ASSERT_TRUE(writer.wait()->saved);
  save_checkpoint(temporary_ / "other", state_.registry.view(), request());
  const char name[] = "step-000000001";
  EXPECT_EQ(slurp(dir_ / name / "state-00001-of-00001.h5"),
            slurp(temporary_ / "other" / name / "state-00001-of-00001.h5"));
}

TEST_F(CheckpointWriterTest, AFailedSaveCostsNothingButItself) {
  CheckpointWriter writer(dir_, state_.registry, {});
  state_.advance();
  writer.start(request());
  ASSERT_TRUE(writer.wait()->saved);
  for (const char* place : {"before_write", "during_write", "before_verify", "before_manifest",
                            "after_manifest", "before_rename"}) {
    state_.advance();
    core::arm_failpoints(std::string("checkpoint.") + place + "=throw");
    writer.start(request());
    const auto outcome = writer.wait();
    core::arm_failpoints("");
    ASSERT_TRUE(outcome && outcome->error) << place;
    EXPECT_EQ(steps(), std::vector<int64_t>{1}) << place;
    verify_checkpoint(dir_ / "step-000000001", true);
    EXPECT_TRUE(remove_leftovers(dir_).empty()) << place << ": it cleaned up itself";
  }
  state_.advance();
  writer.start(request());
  EXPECT_TRUE(writer.wait()->saved) << "the next one is as good as ever";
}

TEST_F(CheckpointWriterTest, ARetentionThatFailsIsAWarning) {
  CheckpointWriter writer(dir_, state_.registry, {.keep_last = 1});
  state_.advance();
  core::arm_failpoints("checkpoint.before_retention=throw");
  writer.start(request());
  const auto outcome = writer.wait();
  ASSERT_TRUE(outcome->saved);
  EXPECT_FALSE(outcome->error);
  EXPECT_FALSE(outcome->warning.empty());
}

TEST_F(CheckpointWriterTest, NeverSavesWhatIsNotFinite) {
  CheckpointWriter writer(dir_, state_.registry, {});
  state_.advance();
  state_.values()[77] = std::numeric_limits<float>::quiet_NaN();
  writer.start(request());
  const auto outcome = writer.wait();
  ASSERT_TRUE(outcome && outcome->error);
  EXPECT_FAILS(kNumerical, "w[77]", std::rethrow_exception(outcome->error));
  EXPECT_TRUE(steps().empty());
}

TEST_F(CheckpointWriterTest, LetsASaveInFlightEnd) {
  {
    CheckpointWriter writer(dir_, state_.registry, {});
    state_.advance();
    writer.start(request());
  }
  EXPECT_EQ(steps(), std::vector<int64_t>{1});
}

TEST_F(CheckpointWriterTest, OneSaveAtATime) {
  CheckpointWriter writer(dir_, state_.registry, {});
  state_.advance();
  core::arm_failpoints("checkpoint.before_write=sleep:50");
  writer.start(request());
  EXPECT_FAILS(kInternal, "in flight", writer.start(request()));
  EXPECT_TRUE(writer.wait()->saved);
}

TEST_F(CheckpointWriterTest, KeepsNewestEveryAndBest) {
  CheckpointWriter writer(dir_, state_.registry, {.keep_last = 2, .keep_every = 5, .keep_best = 1});
  std::vector<int64_t> removed;
  for (double loss : {3.0, 2.0, 1.0, 1.0, 1.5, -1.0, 2.0, 4.0}) {  // -1: not measured
    state_.advance();
    writer.start(request(loss));
    const auto outcome = writer.wait();
    ASSERT_TRUE(outcome->saved);
    removed.insert(removed.end(), outcome->removed.begin(), outcome->removed.end());
  }
  EXPECT_EQ(steps(), (std::vector<int64_t>{8, 7, 5, 4})) << "4 is the newest of the best";
  EXPECT_EQ(removed, (std::vector<int64_t>{1, 2, 3, 6}));
}

TEST_F(CheckpointWriterTest, RefusesAFolderThatCannotBeWritten) {
  const fs::path file = temporary_ / "file";
  core::write_file_atomically(file, "x");
  EXPECT_THROW(CheckpointWriter(file / "checkpoints", state_.registry, {}), core::Error);
}

}  // namespace
