#include "core/failpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "tests/support/refusal.h"

namespace core {
namespace {

class FailpointTest : public testing::Test {
 protected:
  void TearDown() override { arm_failpoints(""); }
};

// How a child process ends that passes step.end three times.
int child_status(const char* specification) {
  const pid_t child = ::fork();
  if (child == 0) {
    arm_failpoints(specification);
    for (int i = 0; i < 3; ++i) failpoint("step.end");
    ::_exit(7);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, WUNTRACED), child);
  if (WIFSTOPPED(status)) {
    const int stopped = status;
    ::kill(child, SIGCONT);
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "a stopped process goes on";
    return stopped;
  }
  return status;
}

TEST_F(FailpointTest, DoesNothingUnlessArmed) {
  EXPECT_NO_THROW(failpoint("step.begin"));
  arm_failpoints("step.end=throw");
  EXPECT_NO_THROW(failpoint("step.begin"));
  arm_failpoints("");
  EXPECT_NO_THROW(failpoint("step.end"));
}

TEST_F(FailpointTest, ThrowsAtTheChosenPassageOnly) {
  arm_failpoints("step.end=throw@3,step.end=throw@5,metrics.append=throw");
  for (int passage = 1; passage <= 6; ++passage) {
    if (passage == 3 || passage == 5)
      test_support::expect_refusal(ExitCode::kIo, "step.end", [] { failpoint("step.end"); });
    else
      EXPECT_NO_THROW(failpoint("step.end")) << passage;
  }
  EXPECT_THROW(failpoint("metrics.append"), Error) << "passages are counted by place";
}

TEST_F(FailpointTest, ArmingCountsAnew) {
  arm_failpoints("step.end=throw@2");
  failpoint("step.end");
  arm_failpoints("step.end=throw@2");
  EXPECT_NO_THROW(failpoint("step.end"));
  EXPECT_THROW(failpoint("step.end"), Error);
}

TEST_F(FailpointTest, SleepsAsLongAsAsked) {
  arm_failpoints("validation.begin=sleep:30");
  const auto start = std::chrono::steady_clock::now();
  failpoint("validation.begin");
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(30));
}

TEST_F(FailpointTest, EndsOrStopsTheProcess) {
  const int killed = child_status("step.end=kill@2");
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL) << killed;
  const int aborted = child_status("step.end=abort");
  EXPECT_TRUE(WIFSIGNALED(aborted) && WTERMSIG(aborted) == SIGABRT) << aborted;
  const int stopped = child_status("step.end=stop");
  EXPECT_TRUE(WIFSTOPPED(stopped) && WSTOPSIG(stopped) == SIGSTOP) << stopped;
  const int late = child_status("step.end=kill@4");
  EXPECT_TRUE(WIFEXITED(late) && WEXITSTATUS(late) == 7) << late;
}

TEST_F(FailpointTest, WrongSpecificationsAreRefusedAndChangeNothing) {
  arm_failpoints("step.end=throw");
  const auto refuse = [](const char* specification, const char* part) {
    test_support::expect_refusal(ExitCode::kBadConfig, part,
                                 [&] { arm_failpoints(specification); });
  };
  refuse("step.ends=kill", "did you mean step.end?");
  refuse("nonsense=kill", "mha2mla env lists them");
  refuse("step.end", "NAME=ACTION[@N]");
  refuse("step.end=", "kill, abort, throw, stop or sleep:MS");
  refuse("step.end=die", "kill, abort, throw, stop or sleep:MS");
  refuse("step.end=kill@0", "from 1 on");
  refuse("step.end=kill@", "from 1 on");
  refuse("step.end=kill@2x", "from 1 on");
  refuse("step.end=kill@99999999999999999999", "from 1 on");
  refuse("step.end=sleep:", "milliseconds");
  refuse("step.end=sleep:-1", "milliseconds");
  refuse("step.end=sleep", "kill, abort, throw, stop or sleep:MS");
  refuse("step.end=kill,", "after the last comma");
  refuse(",step.end=kill", "NAME=ACTION[@N]");
  refuse(" step.end=kill", "MHA2MLA_FAILPOINT");
  EXPECT_THROW(failpoint("step.end"), Error) << "what was armed before still is";
}

}  // namespace
}  // namespace core
