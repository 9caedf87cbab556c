// Signals, trigger files and the time limit, and long work that ends early because of them.
#include "trainer/run/stop_requests.h"
#include "core/signals_blocked.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <csignal>
#include <thread>

#include "core/stop.h"
#include "data/tokenize_files.h"
#include "model/convert.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/calibration.h"
#include "trainer/models/evaluate.h"
#include "trainer/models/model_folder.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using std::chrono::steady_clock;
using test_support::spill;

class StopRequestsTest : public testing::Test {
 protected:
  void SetUp() override { core::reset_stop(); }
  void TearDown() override { core::reset_stop(); }
  test_support::TemporaryFolder folder_;
};

TEST_F(StopRequestsTest, TriggerFilesAreSeenOnceAndRemoved) {
  StopRequests requests(folder_.path(), seconds(0), steady_clock::now());
  EXPECT_EQ(requests.poll(), 0u);
  spill(folder_ / "SAVE", "");
  EXPECT_EQ(requests.poll(), core::kSaveNow);
  EXPECT_FALSE(fs::exists(folder_ / "SAVE"));
  core::clear_save_now();
  EXPECT_EQ(requests.poll(), 0u);
  spill(folder_ / "STOP", "now");
  EXPECT_EQ(requests.poll(), core::kStopTrigger);
  EXPECT_FALSE(fs::exists(folder_ / "STOP"));
  EXPECT_EQ(requests.poll(), core::kStopTrigger) << "a stop stays";
}

// A folder with something in it cannot be removed, whoever runs the test.
TEST_F(StopRequestsTest, ATriggerThatCannotBeRemovedCountsOnce) {
  StopRequests requests(folder_.path(), seconds(0), steady_clock::now());
  fs::create_directories(folder_ / "SAVE/full");
  EXPECT_EQ(requests.poll(), core::kSaveNow);
  core::clear_save_now();
  EXPECT_EQ(requests.poll(), 0u);
  fs::remove_all(folder_ / "SAVE");
  EXPECT_EQ(requests.poll(), 0u);
  spill(folder_ / "SAVE", "");
  EXPECT_EQ(requests.poll(), core::kSaveNow) << "a new one counts again";
}

TEST_F(StopRequestsTest, OtherRanksLookForNoFiles) {
  StopRequests requests({}, seconds(0), steady_clock::now());
  spill(folder_ / "STOP", "");
  EXPECT_EQ(requests.poll(), 0u);
  EXPECT_TRUE(fs::exists(folder_ / "STOP"));
}

TEST_F(StopRequestsTest, MaxTimeCountsFromTheStart) {
  StopRequests early({}, seconds(60), steady_clock::now());
  EXPECT_EQ(early.poll(), 0u);
  StopRequests late({}, seconds(60), steady_clock::now() - seconds(61));
  EXPECT_EQ(late.poll(), core::kStopMaxTime);
}

TEST_F(StopRequestsTest, EverySignalSetsItsBit) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        install_signal_handlers();
        unsigned wrong = 0;
        for (const auto& [signal, bit] :
             {std::pair{SIGUSR1, core::kStopUsr1}, std::pair{SIGUSR2, core::kSaveNow},
              std::pair{SIGTERM, core::kStopTerm}, std::pair{SIGHUP, core::kStopHup},
              std::pair{SIGXCPU, core::kStopXcpu}}) {
          core::reset_stop();
          std::raise(signal);
          wrong += core::stop_bits() == bit ? 0u : 1u;
        }
        std::raise(SIGPIPE);
        std::raise(SIGXFSZ);
        std::_Exit(static_cast<int>(wrong));
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(StopRequestsTest, TheSecondInterruptEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        std::raise(SIGINT);
        if (core::stop_bits() != core::kStopInt) std::_Exit(1);
        std::raise(SIGTERM);
        std::_Exit(2);
      },
      testing::ExitedWithCode(130), "stopped at once by a second signal");
}

TEST_F(StopRequestsTest, WhatIsIgnoredStaysIgnored) {
  EXPECT_EXIT(
      {
        std::signal(SIGHUP, SIG_IGN);
        install_signal_handlers();
        std::raise(SIGHUP);
        std::_Exit(static_cast<int>(core::stop_bits()));
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(StopRequestsTest, ThreadsOfTheScopeReceiveNoSignals) {
  bool blocked = false;
  const auto is_blocked = [] {
    ::sigset_t mask;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    return ::sigismember(&mask, SIGUSR1) == 1;
  };
  {
    const core::SignalsBlocked scope;
    std::jthread thread([&] { blocked = is_blocked(); });
  }
  EXPECT_TRUE(blocked);
  EXPECT_FALSE(is_blocked());
}

TEST_F(StopRequestsTest, ConversionCalibrationAndEvaluationEnd) {
  const LoadedModel loaded = load_model(fs::path(MHA2MLA_TEST_DATA) / "llama-gqa-tied");
  const WindowSource windows{.name = "zeros",
                             .protocol = "zeros",
                             .count = 2,
                             .sequence_length = 4,
                             .read = [](int64_t, int32_t* out) { std::fill(out, out + 4, 0); }};
  model::Llama llama(loaded.model, {});
  model::MemoryReader weights(loaded.model);
  model::ConversionOptions options;
  options.rope = {.strategy = model::RopeStrategy::high, .pairs_per_head = 2};
  options.latent_dims_per_kv_head = 5;
  EXPECT_GT(evaluate(llama, windows, 1, nullptr).nll, 0) << "the work itself is sound";
  EXPECT_EQ(model::convert(loaded.model, options, nullptr).layers.size(), 2u);
  core::request_stop(core::kStopUsr1);
  EXPECT_FAILS(kPreempted, "stopped by SIGUSR1", evaluate(llama, windows, 1, nullptr));
  EXPECT_FAILS(kPreempted, "stopped by SIGUSR1", calibrate(weights, {windows}, 1));
  EXPECT_FAILS(kPreempted, "stopped by SIGUSR1", model::convert(loaded.model, options, nullptr));
}

TEST_F(StopRequestsTest, TokenisationEndsAndLeavesNothing) {
  const fs::path out = folder_ / "out";
  fs::create_directories(out);
  int encoded = 0;
  const auto encoder = [&](std::string_view) {
    if (++encoded == 2) core::request_stop(core::kStopTerm);
    return std::vector<uint32_t>{1, 2, 3};
  };
  spill(folder_ / "in.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n");
  const std::vector<fs::path> inputs = {folder_ / "in.jsonl"};
  const data::ShardOrigin origin{.tokenizer_name = "t",
                                 .tokenizer_hash = "h",
                                 .vocab_size = 10,
                                 .eos_id = {},
                                 .key = {},
                                 .inputs = {}};
  EXPECT_FAILS(kPreempted, "stopped by SIGTERM",
               data::tokenize_files(inputs, out / "shard", origin, encoder, {}));
  EXPECT_EQ(encoded, 2);
  EXPECT_TRUE(fs::is_empty(out));
}

}  // namespace
}  // namespace trainer
