// What saving leaves behind: which checkpoints stay, and what becomes of the leftovers of writers
// that died, of a full disk, and of a run whose folder is gone.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/trainer/checkpoint/toy_trainer.h"
#include "trainer/checkpoint/retention.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>

namespace {

using ag::Tensor;
namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;

using Saving = CheckpointFolder;

TEST_F(Saving, LeftoversOfDeadWritersAreIgnoredAndRemoved) {
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

TEST_F(Saving, RetentionKeepsTheNewestAndEveryNth) {
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
TEST_F(Saving, RetentionKeepsTheNewestScheduled) {
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

TEST_F(Saving, RetentionKeepsTheBestByWhatIsKnownLast) {
  Toy toy;
  for (int i = 0; i < 4; ++i) {
    toy.train(1);
    toy.save(dir_);
  }
  // 2 was measured after it was saved; of 1 and 3 nothing is known.
  EXPECT_EQ(apply_retention(dir_, {.keep_last = 1, .keep_best = 1}, {{2, 3.5}, {4, 3.6}}),
            (std::vector<int64_t>{3, 1}));
}

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// A file size limit stands in for a full disk: the same failing write, at every size up to whole.
TEST_F(Saving, FailedWritesLeaveThePreviousCheckpoint) {
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

TEST_F(Saving, FullDiskIsSeenBeforehand) {
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

// The folder is exchanged just after the save has looked whether it is still its own.
TEST_F(Saving, WhatHasTakenTheRunsPlaceIsLeftAlone) {
  const fs::path run = temporary_ / "run";
  fs::create_directories(run / "checkpoints");
  Toy toy;
  toy.train(1);
  int looks = 0;
  const auto require_place = [&] {
    if (++looks > 1)
      core::fail(core::ExitCode::kIo,
                 {.field = "run folder", .expected = "mine", .found = "other"});
    fs::rename(run, temporary_ / "elsewhere");
    fs::create_directories(run);
  };
  EXPECT_FAILS(kIo, "expected mine",
               save_checkpoint(run / "checkpoints", toy.registry.view(),
                               {.step = 1, .config = "", .require_place = require_place}));
  EXPECT_TRUE(fs::is_empty(run));
}

}  // namespace
