// Checkpoints: exact round trips, equal bytes for equal state, and no damage that goes unnoticed or
// costs more than the damaged checkpoint.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/trainer/checkpoint/toy_trainer.h"

#include <atomic>
#include <cerrno>
#include <limits>

#include "core/hash.h"
#include "core/io.h"

namespace {

using ag::Shape;
using ag::Tensor;
namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using nlohmann::json;

using Checkpoint = CheckpointFolder;

TEST_F(Checkpoint, ResumesBitByBit) {
  Toy straight, first, second;
  straight.train(9);
  first.train(4);
  const SavedCheckpoint saved = first.save(dir_);
  EXPECT_EQ(saved.path, step(4));
  EXPECT_EQ(saved.manifest_hash, manifest_hash(saved.path));
  load_checkpoint(saved.path, second.registry);
  EXPECT_EQ(second.state(), first.state());
  second.train(5);
  EXPECT_EQ(second.state(), straight.state());
}

TEST_F(Checkpoint, EveryEntryMatters) {
  Toy straight, first;
  straight.train(9);
  first.train(4);
  first.save(dir_);
  for (const std::string& name : first.registry.names()) {
    if (first.registry.is_constant(name)) continue;
    Toy mutant;
    mutant.registry.skip_on_load_for_testing({name});
    load_checkpoint(step(4), mutant.registry);
    mutant.train(5);
    EXPECT_NE(mutant.state(), straight.state()) << name;
  }
}

TEST_F(Checkpoint, EqualStateIsEqualBytes) {
  Toy a, b;
  a.train(3);
  b.train(3);
  a.save(dir_);
  ::sleep(1);
  b.save(temporary_ / "other");
  const fs::path other = temporary_ / "other" / step(3).filename();
  EXPECT_EQ(slurp(step(3) / kStateFile), slurp(other / kStateFile));
  EXPECT_EQ(format_state(read_manifest(step(3))), format_state(read_manifest(other)));
  Toy c;
  load_checkpoint(other, c.registry);
  c.save(temporary_ / "again");
  EXPECT_EQ(slurp(temporary_ / "again" / step(3).filename() / kStateFile),
            slurp(other / kStateFile));
}

TEST_F(Checkpoint, FilesFollowFromBytes) {
  Toy a, b;
  a.train(3);
  a.save(dir_, 100);
  EXPECT_TRUE(fs::exists(step(3) / "state-00003-of-00003.h5"));
  verify_checkpoint(step(3), true);
  load_checkpoint(step(3), b.registry);
  EXPECT_EQ(a.state(), b.state());
}

TEST_F(Checkpoint, EveryFlippedByteFallsBack) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  toy.save(dir_);
  for (const char* name : {kStateFile, kManifestName}) {
    const std::string whole = slurp(step(2) / name);
    for (size_t i = 0; i < whole.size(); i += 97) {
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
      spill(step(2) / name, bad);
      const auto valid = newest_valid(dir_, Invalid::leave);
      ASSERT_TRUE(valid);
      ASSERT_EQ(valid->step, 1) << name << " byte " << i;
    }
    spill(step(2) / name, whole);
  }
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 2);
}

TEST_F(Checkpoint, EveryTruncationAndMissingFileFallsBack) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  toy.save(dir_);
  for (const char* name : {kStateFile, kManifestName}) {
    const std::string whole = slurp(step(2) / name);
    for (size_t size = 0; size < whole.size(); size += 101) {
      spill(step(2) / name, whole.substr(0, size));
      ASSERT_EQ(newest_valid(dir_, Invalid::leave)->step, 1) << name << " cut at " << size;
    }
    fs::remove(step(2) / name);
    EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1) << name;
    spill(step(2) / name, whole);
  }
  fs::copy(step(1) / kStateFile, step(2) / "state-00002-of-00002.h5");
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1);
}

TEST_F(Checkpoint, SwappedCheckpointsAreRefused) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  fs::copy(step(1), step(2));
  EXPECT_FAILS(kBadData, "step", verify_checkpoint(step(2), true));
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1);
}

TEST_F(Checkpoint, InvalidOnesGoToQuarantineWithTheReason) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  toy.save(dir_);
  spill(step(2) / kStateFile, "");
  const auto valid = newest_valid(dir_, Invalid::quarantine);
  ASSERT_TRUE(valid);
  EXPECT_EQ(valid->step, 1);
  ASSERT_EQ(valid->warnings.size(), 1u);
  EXPECT_NE(valid->warnings[0].find("size: expected"), std::string::npos) << valid->warnings[0];
  EXPECT_FALSE(fs::exists(step(2)));
  EXPECT_TRUE(fs::exists(dir_ / "quarantine/step-000000002" / kManifestName));
  EXPECT_NE(slurp(dir_ / "quarantine/step-000000002.reason.txt").find("size"), std::string::npos);
}

// The n-th file operation fails.
class NthFails : public core::io::Observer {
 public:
  NthFails(int64_t nth, int error_number)
      : nth_(nth), error_number_(error_number), earlier_(core::io::install_observer(this)) {}
  ~NthFails() override { core::io::install_observer(earlier_); }
  core::io::Verdict before(const core::io::Call&) override {
    return {.error_number = ++count_ == nth_ ? error_number_ : 0};
  }
  void after(const core::io::Call&, int64_t) override {}
  bool failed() const { return count_ >= nth_; }

 private:
  const int64_t nth_;
  const int error_number_;
  core::io::Observer* const earlier_;
  std::atomic<int64_t> count_ = 0;
};

// H518
TEST_F(Checkpoint, WhatCannotBeReadIsNeitherMovedNorPassedOver) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  toy.save(dir_);
  for (const int error_number : {EIO, ESTALE}) {
    int64_t nth = 1, refused = 0;
    for (bool failed = true; failed; ++nth) {
      SCOPED_TRACE(nth);
      NthFails fault(nth, error_number);
      try {
        const auto valid = newest_valid(dir_, Invalid::quarantine);
        EXPECT_TRUE(valid && valid->step == 2);
      } catch (const core::Error& e) {
        ++refused;
        EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(core::ExitCode::kIo)) << e.what();
      }
      failed = fault.failed();
    }
    EXPECT_GT(refused, 5) << nth;
    EXPECT_TRUE(fs::exists(step(1)) && fs::exists(step(2)));
    EXPECT_FALSE(fs::exists(dir_ / "quarantine"));
  }
  NthFails fault(4, EIO);
  EXPECT_FAILS(kIo, "nothing was moved: run the same command again",
               newest_valid(dir_, Invalid::quarantine));
}

TEST_F(Checkpoint, NoneValidIs76AndNothingMoves) {
  EXPECT_FALSE(newest_valid(dir_, Invalid::quarantine));
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  toy.save(dir_);
  spill(step(1) / kManifestName, "{}\n");
  fs::remove(step(2) / kStateFile);
  EXPECT_FAILS(kNoValidCheckpoint, "step-000000001", newest_valid(dir_, Invalid::quarantine));
  EXPECT_TRUE(fs::exists(step(1)) && fs::exists(step(2)));
  fs::create_directories(dir_ / "quarantine");
  fs::rename(step(1), dir_ / "quarantine/step-000000001");
  fs::remove_all(step(2));
  EXPECT_FAILS(kNoValidCheckpoint, "quarantine", newest_valid(dir_, Invalid::quarantine));
}

TEST_F(Checkpoint, NonFiniteStateIsNeitherSavedNorResumed) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  toy.train(1);
  static_cast<float*>(toy.moment.view().data)[5] = std::numeric_limits<float>::infinity();
  EXPECT_FAILS(kNumerical, "optimizer.m/layers.0.w[5]", toy.save(dir_));
  EXPECT_FALSE(fs::exists(step(2)));
  const Manifest manifest{.step = 2, .values = toy.registry.values()};  // by one that does not look
  write_folder(step(2), {"2", "state", toy.registry.sources(), {}, manifest}, IfExists::refuse);
  EXPECT_FAILS(kNumerical, "optimizer.m/layers.0.w[5]", verify_checkpoint(step(2), true));
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1);
  toy.best = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FAILS(kNumerical, "best", toy.save(dir_));
}

TEST_F(Checkpoint, LoadingIsExact) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  const auto refuse = [&](auto change, const char* part, core::ExitCode code) {
    Toy other;
    change(other);
    const std::string before = other.state();
    const Caught error = caught([&] { load_checkpoint(step(1), other.registry); });
    EXPECT_EQ(static_cast<int>(error.code), static_cast<int>(code)) << error.text;
    EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
    EXPECT_EQ(other.state(), before);
  };
  using core::ExitCode;
  refuse([](Toy& t) { t.registry.add_tensor("new", t.history); }, "new",
         ExitCode::kNoValidCheckpoint);
  refuse(
      [](Toy& t) {
        t.registry.add_value(
            "v", [] { return json(1); }, [](const json&) {});
      },
      "v", ExitCode::kNoValidCheckpoint);
  const auto rebuilt = [](Toy& t, const Shape& shape, ag::DType dtype, uint8_t bit, bool all) {
    t.registry = StateRegistry();
    t.registry.add_tensor("layers.0.w", Tensor::zeros(shape, dtype));
    t.registry.add_tensor("history", t.history);
    if (all) t.registry.add_tensor("optimizer.m/layers.0.w", t.moment);
    t.registry.add_constant("kept_pairs", {1, 2, 2}, {1, 0, bit, 1});
    for (const char* name : {"random", "step", "best"})
      t.registry.add_value(
          name, [] { return json(1); }, [](const json&) {});
  };
  refuse(
      [&](Toy& t) {
        rebuilt(t, {4, 6}, ag::DType::f32, 0, false);
      },
      "optimizer.m", ExitCode::kNoValidCheckpoint);
  refuse(
      [&](Toy& t) {
        rebuilt(t, {6, 4}, ag::DType::f32, 0, true);
      },
      "[6, 4]", ExitCode::kBadConfig);
  refuse(
      [&](Toy& t) {
        rebuilt(t, {4, 6}, ag::DType::i32, 0, true);
      },
      "int32", ExitCode::kBadConfig);
  refuse(
      [&](Toy& t) {
        rebuilt(t, {4, 6}, ag::DType::f32, 1, true);
      },
      "kept_pairs", ExitCode::kBadConfig);
  EXPECT_FAILS(kInternal, "taken", toy.registry.add_tensor("step", toy.weight));
}

TEST_F(Checkpoint, SavingAStepAgainExchangesIt) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  static_cast<float*>(toy.weight.view().data)[0] = 5.0f;
  const SavedCheckpoint saved = toy.save(dir_);
  Toy back;
  load_checkpoint(saved.path, back.registry);
  EXPECT_EQ(back.state(), toy.state());
  EXPECT_TRUE(remove_leftovers(dir_).empty());
}

TEST_F(Checkpoint, NewerFormatIsABadConfigurationAndStays) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  json document = json::parse(slurp(step(1) / kManifestName));
  document["min_reader_version"] = 99;
  document.erase("xxh3_128");
  document["xxh3_128"] = core::hash_hex(document.dump(1) + "\n");
  spill(step(1) / kManifestName, document.dump(1) + "\n");
  EXPECT_FAILS(kBadConfig, "format_version", newest_valid(dir_, Invalid::quarantine));
  EXPECT_TRUE(fs::exists(step(1)));
}

}  // namespace
