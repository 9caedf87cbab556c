// Checkpoints: exact round trips, equal bytes for equal state, and no damage that goes unnoticed or
// costs more than the damaged checkpoint.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/checkpoint.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <limits>

#include "core/hash.h"
#include "core/io.h"
#include "trainer/checkpoint/retention.h"

namespace {

using ag::Shape;
using ag::Tensor;
namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using nlohmann::json;

// A trainer in small: weights, moments, a step counter, an rng; each step depends on all of them.
struct Toy {
  Tensor weight = Tensor::zeros({4, 6}, ag::DType::f32);
  Tensor moment = Tensor::zeros({4, 6}, ag::DType::f32);
  Tensor history = Tensor::zeros({3}, ag::DType::f64);
  uint64_t random = 42;
  int64_t step = 0;
  double best = 0.1;
  StateRegistry registry;

  Toy() {
    registry.add_tensor("layers.0.w", weight);
    registry.add_tensor("optimizer.m/layers.0.w", moment);
    registry.add_tensor("history", history);
    registry.add_constant("kept_pairs", {1, 2, 2}, {1, 0, 0, 1});
    registry.add_value(
        "random", [this] { return json(random); },
        [this](const json& v) { random = v.get<uint64_t>(); });
    registry.add_value(
        "step", [this] { return json(step); }, [this](const json& v) { step = v.get<int64_t>(); });
    registry.add_value(
        "best", [this] { return json(best); }, [this](const json& v) { best = v.get<double>(); });
  }
  Toy(const Toy&) = delete;
  Toy& operator=(const Toy&) = delete;

  void train(int steps) {
    auto* w = static_cast<float*>(weight.view().data);
    auto* m = static_cast<float*>(moment.view().data);
    auto* h = static_cast<double*>(history.view().data);
    for (; steps > 0; --steps) {
      ++step;
      random = random * 6364136223846793005u + 1442695040888963407u;
      for (int i = 0; i < 24; ++i) {
        const auto noise = static_cast<float>((random >> (i % 32)) & 255) / 256.0f;
        m[i] = 0.9f * m[i] + 0.1f * (noise - w[i] + static_cast<float>(h[step % 3]));
        w[i] += m[i] / static_cast<float>(step);
      }
      h[step % 3] += static_cast<double>(w[0]) * best;
      best = 0.5 * best + 0.3 * static_cast<double>(w[1]);
    }
  }

  SavedCheckpoint save(const fs::path& directory, uint64_t bytes_per_file = kBytesPerFile) {
    return save_checkpoint(directory, registry.view(),
                           {.step = step,
                            .config = "tokens: {train_steps: 9}\n",
                            .provenance = {{"ranks", 1}},
                            .companions = {},
                            .bytes_per_file = bytes_per_file});
  }
  std::string state() const {
    std::string all = registry.values().dump();
    for (const H5Source& s : registry.sources())
      all.append(static_cast<const char*>(s.data), s.bytes());
    return all;
  }
};

constexpr char kStateFile[] = "state-00001-of-00001.h5";

class Checkpoint : public ::testing::Test {
 protected:
  TemporaryFolder temporary_;
  fs::path dir_ = temporary_ / "checkpoints";
  fs::path step(int n) const { return dir_ / ("step-00000000" + std::to_string(n)); }
};

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

TEST_F(Checkpoint, LeftoversOfDeadWritersAreIgnoredAndRemoved) {
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  const fs::path dead = dir_ / ".tmp-2-0123456789abcdef";
  fs::copy(step(1), dead);
  fs::copy(step(1), dir_ / ".trash-3-0123456789abcdef");
  fs::create_directories(dir_ / ".tmp-mine");
  fs::create_directories(dir_ / ".tmp-model-0123456789abcdef/part");
  spill(dir_ / "config.resolved.yaml.tmp.12", "");
  spill(dir_ / "notes.json.tmp.12", "");
  fs::create_directories(dir_ / "step-2");
  EXPECT_EQ(newest_valid(dir_, Invalid::quarantine)->step, 1);
  EXPECT_EQ(remove_leftovers(dir_).size(), 4u);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(dir_ / "notes.json.tmp.12"));
  EXPECT_TRUE(fs::exists(dir_ / ".tmp-mine") && fs::exists(dir_ / "step-2"));
}

TEST_F(Checkpoint, RetentionKeepsTheNewestAndEveryNth) {
  Toy toy;
  for (int i = 0; i < 7; ++i) {
    toy.train(1);
    toy.save(dir_);
  }
  EXPECT_EQ(apply_retention(dir_, {.keep_last = 2, .keep_every = 3}),
            (std::vector<int64_t>{5, 4, 2, 1}));
  std::vector<int64_t> steps;
  for (const auto& found : find_checkpoints(dir_)) steps.push_back(found.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{7, 6, 3}));
  EXPECT_EQ(slurp(dir_ / "LATEST"), "step-000000007\n");
}

// Steps 3 and 6 are scheduled; what a stop or a request added must not push them out.
TEST_F(Checkpoint, RetentionKeepsTheNewestScheduled) {
  Toy toy;
  for (int i = 0; i < 8; ++i) {
    toy.train(1);
    toy.save(dir_);
  }
  EXPECT_EQ(apply_retention(dir_, {.keep_last = 2, .checkpoint_interval = 3}),
            (std::vector<int64_t>{5, 4, 2, 1}));
  toy.train(1);
  toy.save(dir_);
  EXPECT_EQ(apply_retention(dir_, {.keep_last = 1, .checkpoint_interval = 3}),
            (std::vector<int64_t>{8, 7, 6, 3}));
}

TEST_F(Checkpoint, RetentionKeepsTheBestByWhatIsKnownLast) {
  Toy toy;
  for (int i = 0; i < 4; ++i) {
    toy.train(1);
    toy.save(dir_);
  }
  // 2 was measured after it was saved; of 1 and 3 nothing is known.
  EXPECT_EQ(apply_retention(dir_, {.keep_last = 1, .keep_best = 1}, {{2, 3.5}, {4, 3.6}}),
            (std::vector<int64_t>{3, 1}));
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

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// A file size limit stands in for a full disk: the same failing write, at every size up to whole.
TEST_F(Checkpoint, FailedWritesLeaveThePreviousCheckpoint) {
  Toy toy;
  Tensor big = Tensor::zeros({64, 1024}, ag::DType::f32);
  toy.registry.add_tensor("big", big);
  toy.train(1);
  toy.save(dir_);
  const uint64_t whole = fs::file_size(step(1) / kStateFile);
  toy.train(1);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const size_t descriptors = open_descriptors();
  for (uint64_t limit = 0; limit < whole; limit += whole / 23) {
    const rlimit small{limit, old.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const Caught error = caught([&] { toy.save(dir_); });
    ::setrlimit(RLIMIT_FSIZE, &old);
    EXPECT_EQ(static_cast<int>(error.code), 74) << limit << " " << error.text;
    EXPECT_NE(error.text.find("needs"), std::string::npos) << error.text;
    EXPECT_EQ(find_checkpoints(dir_).size(), 1u);
    EXPECT_TRUE(remove_leftovers(dir_).empty());
    EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1);
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  toy.save(dir_);
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 2);
}

TEST_F(Checkpoint, FullDiskIsSeenBeforehand) {
  fs::create_directories(dir_);
  if (::mount("none", dir_.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "mounting is not allowed here; the file size limit test covers the writes";
  Toy toy;
  toy.train(1);
  toy.save(dir_);
  Tensor big = Tensor::zeros({64, 1024}, ag::DType::f32);
  toy.registry.add_tensor("big", big);
  toy.train(1);
  EXPECT_FAILS(kIo, "free", toy.save(dir_));
  EXPECT_EQ(newest_valid(dir_, Invalid::leave)->step, 1);
  ::umount(dir_.c_str());
}

}  // namespace
