#include "trainer/ranks/affinity.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <numeric>
#include <thread>

namespace trainer {
namespace {

Affinity affinity(int allowed, int node, bool mpirun) {
  Affinity a;
  a.allowed.resize(static_cast<size_t>(allowed));
  std::iota(a.allowed.begin(), a.allowed.end(), 0);
  a.node_cores = node;
  a.mpirun = mpirun;
  return a;
}

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(FormatCores, RunsBecomeRanges) {
  EXPECT_EQ(format_cores({}), "");
  EXPECT_EQ(format_cores({5}), "5");
  EXPECT_EQ(format_cores({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(PlanThreads, UnboundRanksShareTheNode) {
  EXPECT_EQ(plan_threads(affinity(8, 8, true), 1, {}).threads, 8);
  EXPECT_EQ(plan_threads(affinity(8, 8, true), 3, {}).threads, 2);
  EXPECT_EQ(plan_threads(affinity(2, 2, true), 4, {}).threads, 1);
  EXPECT_EQ(plan_threads(affinity(8, 8, true), 3, {}).warning, "");
  EXPECT_EQ(plan_threads(affinity(2, 2, true), 4, {}).warning, "");
}

TEST(PlanThreads, DefaultBindingIsNoticedWithTheFix) {
  const ThreadPlan plan = plan_threads(affinity(1, 8, true), 2, {});
  EXPECT_EQ(plan.threads, 1);
  EXPECT_TRUE(mentions(plan.warning, "may use 1 core (0) of 8, expected 4")) << plan.warning;
  EXPECT_TRUE(mentions(plan.warning, "--bind-to none")) << plan.warning;
  EXPECT_TRUE(mentions(plan.warning, "--map-by slot:PE=4")) << plan.warning;
}

TEST(PlanThreads, RanksThatShareASocketMaskDoNotOverfillIt) {
  const ThreadPlan plan = plan_threads(affinity(32, 64, true), 4, {});
  EXPECT_EQ(plan.threads, 16);
  EXPECT_EQ(plan.warning, "");
}

TEST(PlanThreads, ChosenBindingOfAllCoresIsQuiet) {
  EXPECT_EQ(plan_threads(affinity(1, 2, true), 2, {}).warning, "");
  EXPECT_EQ(plan_threads(affinity(2, 64, false), 1, {}).threads, 2);
  EXPECT_EQ(plan_threads(affinity(2, 64, false), 1, {}).warning, "");
}

TEST(PlanThreads, ARequestIsKeptAndJudged) {
  const ThreadPlan starved = plan_threads(affinity(1, 8, true), 1, 4);
  EXPECT_EQ(starved.threads, 4);
  EXPECT_TRUE(mentions(starved.warning, "PE=4")) << starved.warning;
  EXPECT_TRUE(mentions(plan_threads(affinity(2, 64, false), 1, 4).warning, "--cpus-per-task=4"));

  const ThreadPlan crowded = plan_threads(affinity(8, 8, true), 4, 4);
  EXPECT_EQ(crowded.threads, 4);
  EXPECT_TRUE(mentions(crowded.warning, "4 ranks of 4 threads on 8 cores")) << crowded.warning;
  EXPECT_EQ(plan_threads(affinity(8, 8, true), 4, 2).warning, "");
}

TEST(ReadAffinity, SeesABoundThreadAndTheNodeBehindIt) {
  const Affinity free = read_affinity();
  ASSERT_FALSE(free.allowed.empty());
  EXPECT_GE(free.node_cores, static_cast<int>(free.allowed.size()));

  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(free.allowed.back()), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    const Affinity bound = read_affinity();
    EXPECT_EQ(bound.allowed, std::vector<int>{free.allowed.back()});
    EXPECT_EQ(bound.node_cores, free.node_cores);
  }).join();
  EXPECT_EQ(read_affinity().allowed, free.allowed);
}

}  // namespace
}  // namespace trainer
