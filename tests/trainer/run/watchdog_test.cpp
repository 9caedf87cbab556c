// The watchdog with a clock that the test moves: what it writes, says and forgives, and when.
#include "trainer/run/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/io.h"
#include "tests/support/temporary_folder.h"

namespace trainer {
namespace {

using namespace std::chrono_literals;
using test_support::slurp;
using test_support::spill;
namespace fs = std::filesystem;

class WatchdogTest : public testing::Test {
 protected:
  WatchdogOptions options(int rank = 0, int ranks = 1) {
    return {.folder = folder_.path(),
            .rank = rank,
            .ranks = ranks,
            .host = "node",
            .abort =
                [this](const std::string& line) {
                  const std::lock_guard lock(mutex_);
                  said_ += line + "\n";
                },
            .force_exit = [this] { forced_ = true; },
            .tick = 1ms,
            .now =
                [this] {
                  if (std::this_thread::get_id() != test_) ++looks_;
                  return WatchdogOptions::Clock::time_point(1s * now_.load());
                }};
  }
  // Time passes in steps that are no stalls, each seen by the watchdog, however slow the machine.
  void pass(int elapsed) {
    for (; elapsed > 0; --elapsed) jump(1);
  }
  void jump(int elapsed) {
    now_ += elapsed;
    // The second look from here on begins when all that follows from the first is done.
    const int seen = looks_;
    soon([&] { return looks_ >= seen + 2 || !said().empty(); });
  }
  std::string said() {
    const std::lock_guard lock(mutex_);
    return said_;
  }
  template <class Condition>
  static bool soon(const Condition& condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
    return condition();
  }
  fs::path report(int rank) const {
    return folder_ / ("hang-rank" + std::to_string(rank) + ".txt");
  }

  test_support::TemporaryFolder folder_;
  std::atomic<int> now_ = 1000, looks_ = 0;
  std::atomic<bool> forced_ = false;

 private:
  std::mutex mutex_;
  std::string said_;
  const std::thread::id test_ = std::this_thread::get_id();
};

TEST_F(WatchdogTest, PhasesInTimeAreNotWorthAWord) {
  Watchdog watchdog(options());
  for (int step = 1; step <= 5; ++step) {
    const auto phase = watchdog.enter("step", 10s);
    pass(4);
  }
  pass(20);  // outside of all phases
  EXPECT_EQ(said(), "");
  EXPECT_FALSE(fs::exists(report(0)));
}

TEST_F(WatchdogTest, HalfOfTheLimitIsReportedAndTakenBack) {
  Watchdog watchdog(options(3, 4));
  {
    const auto phase = watchdog.enter("step 12", 10s);
    pass(6);
    ASSERT_TRUE(soon([&] { return fs::exists(report(3)); }));
    const std::string text = slurp(report(3));
    EXPECT_EQ(text.find("rank 3\nhost node\nphase step 12\nseconds "), 0u) << text;
    EXPECT_NE(text.find("\nlimit 10.0\n"), std::string::npos) << text;
  }
  EXPECT_TRUE(soon([&] { return !fs::exists(report(3)); }));
  EXPECT_EQ(said(), "");
}

TEST_F(WatchdogTest, TheLimitEndsTheRunWithPhaseAndRank) {
  Watchdog watchdog(options());
  const auto phase = watchdog.enter("validation at step 7", 10s);
  pass(9);
  EXPECT_EQ(said(), "");
  pass(1);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
  EXPECT_EQ(said(),
            "[rank 0 node] error: watchdog: expected validation at step 7 within 10 s, got no end "
            "after 10 s\n");
  pass(20);
  EXPECT_EQ(said().find('\n') + 1, said().size()) << "once";
  EXPECT_FALSE(forced_);
}

TEST_F(WatchdogTest, RanksThatAreSilentOrElsewhereAreNamed) {
  spill(report(1), "rank 1\nhost b\nphase checkpoint of step 11\nseconds 5\nlimit 10\n");
  spill(report(2), "rank 2\nhost c\nphase step 12\nseconds 5\nlimit 10\n");
  spill(report(3), "rank 3\nhost d\nphase step 12\nseconds 5\nlimit 10\n");
  fs::last_write_time(report(3), fs::file_time_type::clock::now() - 1h);  // of an earlier process
  Watchdog watchdog(options(0, 5));
  const auto phase = watchdog.enter("step 12", 10s);
  pass(11);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
  EXPECT_EQ(
      said(),
      "[rank 0 node] error: watchdog: expected step 12 within 10 s, got no end after 10 s; no "
      "report of rank 3, 4: stopped or unreachable; rank 1 is in checkpoint of step 11\n");
}

TEST_F(WatchdogTest, OtherRanksLetRankZeroSpeak) {
  Watchdog watchdog(options(1, 2));
  const auto phase = watchdog.enter("step 12", 10s);
  pass(11);
  EXPECT_EQ(said(), "");
  pass(2);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
}

TEST_F(WatchdogTest, OverlappingPhasesHaveLimitsOfTheirOwn) {
  Watchdog watchdog(options());
  const auto checkpoint = watchdog.enter("checkpoint of step 5", 10s);
  for (int step = 6; step < 9; ++step) {
    const auto phase = watchdog.enter("step", 8s);
    pass(3);
  }
  EXPECT_EQ(said(), "");
  pass(2);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
  EXPECT_NE(said().find("checkpoint of step 5"), std::string::npos) << said();
}

TEST_F(WatchdogTest, AStallOfTheWholeProcessIsForgiven) {
  Watchdog watchdog(options());
  const auto phase = watchdog.enter("step 12", 10s);
  pass(3);
  jump(3600);  // suspended
  pass(6);
  EXPECT_EQ(said(), "") << "3 + 6 seconds of its own";
  pass(1);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
}

TEST_F(WatchdogTest, NoLimitIsNoPhase) {
  Watchdog watchdog(options());
  const auto phase = watchdog.enter("setup", 0s);
  pass(30);
  EXPECT_EQ(said(), "");
}

TEST_F(WatchdogTest, AnAbortThatHangsIsForced) {
  WatchdogOptions hanging = options();
  hanging.abort_time = 20ms;
  hanging.abort = [this, say = hanging.abort](const std::string& line) {
    say(line);
    for (int i = 0; i < 2000 && !forced_; ++i) std::this_thread::sleep_for(1ms);
  };
  Watchdog watchdog(hanging);
  const auto phase = watchdog.enter("step 12", 2s);
  pass(3);
  EXPECT_TRUE(soon([&] { return forced_.load(); }));
}

TEST_F(WatchdogTest, APhaseMayMove) {
  Watchdog watchdog(options());
  {
    Watchdog::Phase phase = watchdog.enter("setup", 10s);
    const Watchdog::Phase moved = std::move(phase);
    pass(2);
  }
  pass(20);
  EXPECT_EQ(said(), "");
}

TEST_F(WatchdogTest, WithoutItsFolderItStillEndsTheRun) {
  WatchdogOptions lost = options(0, 2);
  lost.folder = folder_ / "not there";
  Watchdog watchdog(lost);
  const auto phase = watchdog.enter("step 12", 4s);
  pass(5);
  EXPECT_TRUE(soon([&] { return !said().empty(); }));
  EXPECT_NE(said().find("no report of rank 1"), std::string::npos) << said();
}

// Opening the report of rank 1 takes until release().
class HangingFileSystem : public core::io::Observer {
 public:
  core::io::Verdict before(const core::io::Call& call) override {
    if (is_report(call)) released_.wait(false);
    return {};
  }
  void after(const core::io::Call& call, int64_t) override {
    if (is_report(call)) opened_ = true;
  }
  void release() {
    released_ = true;
    released_.notify_all();
  }
  bool opened() const { return opened_; }

 private:
  static bool is_report(const core::io::Call& call) {
    return call.operation == core::io::Operation::open && call.path != nullptr &&
           std::string_view(call.path).ends_with("hang-rank1.txt");
  }
  std::atomic<bool> released_ = false, opened_ = false;
};

TEST_F(WatchdogTest, AHungFileSystemDoesNotSilenceIt) {
  static HangingFileSystem hanging;  // outlives the thread that is left behind
  core::io::Observer* const earlier = core::io::install_observer(&hanging);
  WatchdogOptions two = options(0, 2);
  two.others_time = 20ms;
  {
    Watchdog watchdog(two);
    const auto phase = watchdog.enter("step 12", 4s);
    pass(5);
    EXPECT_TRUE(soon([&] { return !said().empty(); }));
    EXPECT_EQ(said(),
              "[rank 0 node] error: watchdog: expected step 12 within 4 s, got no end after 4 s; "
              "the reports of the other ranks cannot be read, the run's folder does not answer\n");
  }
  hanging.release();
  EXPECT_TRUE(soon([&] { return hanging.opened(); }));
  core::io::install_observer(earlier);
}

TEST_F(WatchdogTest, ManyThreadsEnterAndLeave) {
  Watchdog watchdog(options());
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) const auto phase = watchdog.enter("step", 1h);
    });
  threads.clear();
  EXPECT_EQ(said(), "");
}

TEST(WatchdogDeathTest, WithoutMemoryThereIsAPlainLine) {
  EXPECT_EXIT(
      {
        WatchdogOptions real;
        real.rank = 2;
        real.folder = "/nowhere";
        real.tick = 1ms;
        real.patience = 0ms;
        real.abort = [](const std::string&) { throw std::bad_alloc(); };
        Watchdog watchdog(real);
        const auto phase = watchdog.enter("step 1", 20ms);
        std::this_thread::sleep_for(1h);
      },
      testing::ExitedWithCode(86), R"(\[rank 2\] error: watchdog: no end of step 1)");
}

TEST(WatchdogDeathTest, ByDefaultAHangIsExitCode86) {
  EXPECT_EXIT(
      {
        WatchdogOptions real;
        real.folder = "/nowhere";
        real.tick = 1ms;
        real.abort_time = 10ms;
        real.abort = [](const std::string&) { std::this_thread::sleep_for(1h); };
        Watchdog watchdog(real);
        const auto phase = watchdog.enter("step 1", 20ms);
        std::this_thread::sleep_for(1h);
      },
      testing::ExitedWithCode(86), "");
}

}  // namespace
}  // namespace trainer
