// Requests to stop: what is kept, what is forgotten, and the words in which work ends.
#include "core/stop.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/error.h"

namespace core {
namespace {

using std::chrono::steady_clock;

class Stop : public testing::Test {
 protected:
  void SetUp() override { reset_stop(); }
  void TearDown() override { reset_stop(); }
};

std::string message_of_stop() {
  try {
    throw_if_stopping();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kPreempted);
    return error.what();
  }
  return "";
}

TEST_F(Stop, NothingWasAskedForAtFirst) {
  EXPECT_EQ(stop_bits(), 0u);
  EXPECT_EQ(message_of_stop(), "");
  EXPECT_EQ(describe_stop(0), "nothing");
}

TEST_F(Stop, SavingIsNoStop) {
  request_stop(kSaveNow);
  EXPECT_FALSE(is_stop(stop_bits()));
  EXPECT_EQ(message_of_stop(), "");
  EXPECT_EQ(describe_stop(stop_bits()), "nothing");
  clear_save_now();
  EXPECT_EQ(stop_bits(), 0u);
}

TEST_F(Stop, RequestsAddUpAndStay) {
  request_stop(kStopTerm);
  request_stop(kSaveNow | kStopUsr1);
  clear_save_now();
  EXPECT_EQ(stop_bits(), kStopUsr1 | kStopTerm);
  EXPECT_EQ(message_of_stop(), "stopped by SIGUSR1, SIGTERM; run the same command again");
}

TEST_F(Stop, EveryBitHasItsName) {
  EXPECT_EQ(describe_stop(kStopUsr1), "SIGUSR1");
  EXPECT_EQ(describe_stop(kStopTerm), "SIGTERM");
  EXPECT_EQ(describe_stop(kStopInt), "SIGINT");
  EXPECT_EQ(describe_stop(kStopHup), "SIGHUP");
  EXPECT_EQ(describe_stop(kStopXcpu), "SIGXCPU");
  EXPECT_EQ(describe_stop(kStopTrigger), "trigger file STOP");
  EXPECT_EQ(describe_stop(kStopMaxTime), "max_time");
}

TEST_F(Stop, TheDeadlineStopsWhenItHasPassed) {
  set_stop_deadline(steady_clock::now() + std::chrono::hours(1));
  EXPECT_EQ(stop_bits(), 0u);
  set_stop_deadline(steady_clock::now());
  EXPECT_EQ(stop_bits(), kStopMaxTime);
  EXPECT_EQ(message_of_stop(), "stopped by max_time; run the same command again");
}

TEST_F(Stop, NoRequestOfSeveralThreadsIsLost) {
  constexpr unsigned kAll =
      kSaveNow | kStopUsr1 | kStopTerm | kStopInt | kStopHup | kStopXcpu | kStopTrigger;
  {
    std::vector<std::jthread> threads;
    for (unsigned bit = 1; bit <= kStopTrigger; bit <<= 1)
      threads.emplace_back([bit] { request_stop(bit); });
  }
  EXPECT_EQ(stop_bits(), kAll);
}

}  // namespace
}  // namespace core
