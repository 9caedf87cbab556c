// The plan of the fixed tree and its walk, with text instead of numbers: every order of additions
// is visible. Ranks are threads with synchronous messages, so that a cyclic wait would hang the
// test.
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "trainer/ranks/comm.h"
#include "trainer/ranks/shard_tree_plan.h"

namespace trainer {
namespace {

std::string expected_tree(int64_t first, int64_t count) {
  if (count == 1) return std::to_string(first);
  return "(" + expected_tree(first, count / 2) + "+" + expected_tree(first + count / 2, count / 2) +
         ")";
}

class Mail {
 public:
  void send(int from, int to, const std::string& text) {
    std::unique_lock lock(mutex_);
    letters_[{from, to}] = text;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !letters_.contains({from, to}); });
  }
  std::string receive(int from, int to) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return letters_.contains({from, to}); });
    std::string text = letters_.extract({from, to}).mapped();
    changed_.notify_all();
    return text;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::string> letters_;
};

void add(std::string& left, const std::string& right) { left = "(" + left + "+" + right + ")"; }

// What rank 0 holds in the end.
std::string walk(int64_t shards, int ranks) {
  Mail mail;
  std::string total;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      const ShardPlan plan(shards, ranks, rank);
      PendingNodes<std::string> nodes;
      for (int64_t j = plan.range().begin; j < plan.range().end; ++j)
        nodes.push_leaf(j, std::to_string(j), add);
      exchange(
          plan, nodes, add, [&](int to, const std::string& text) { mail.send(rank, to, text); },
          [&](int from, std::string& left) { add(left, mail.receive(from, rank)); });
      EXPECT_EQ(nodes.size(), rank == 0 ? 1U : 0U);
      if (rank == 0) total = nodes.take(plan.root());
    });
  for (std::thread& thread : threads) thread.join();
  return total;
}

TEST(ShardTree, EveryNumberOfRanksAddsInTheSameOrder) {
  for (int64_t shards : {1, 2, 4, 8, 16, 32})
    for (int ranks = 1; ranks <= shards; ++ranks)
      EXPECT_EQ(walk(shards, ranks), expected_tree(0, shards)) << shards << " / " << ranks;
}

TEST(ShardTree, RangesPartitionTheShardsAndKnowTheirOwners) {
  for (int64_t shards : {1, 2, 8, 64})
    for (int ranks = 1; ranks <= shards; ++ranks) {
      const ShardPlan plan(shards, ranks, 0);
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(plan.range(rank).begin, next);
        EXPECT_GE(plan.range(rank).size(), 1);
        for (; next < plan.range(rank).end; ++next) EXPECT_EQ(plan.owner(next), rank);
      }
      EXPECT_EQ(next, shards);
    }
}

TEST(ShardTree, BuffersAliveAreLogarithmic) {
  for (int64_t shards : {1, 2, 4, 8, 64, 128})
    for (int ranks = 1; ranks <= shards; ++ranks)
      for (int rank = 0; rank < ranks; ++rank) {
        const ShardPlan plan(shards, ranks, rank);
        const auto log =
            static_cast<int>(std::bit_width(static_cast<uint64_t>(plan.range().size())) - 1);
        const int peak = plan.peak_values();
        if (std::has_single_bit(static_cast<unsigned>(ranks)))
          EXPECT_EQ(peak, log + 1);
        else
          EXPECT_LE(peak, 2 * log + 1) << shards << " / " << ranks << " rank " << rank;
      }
}

core::Error refusal(int64_t shards, int ranks) {
  try {
    const ShardPlan plan(shards, ranks, 0);
  } catch (const core::Error& error) {
    return error;
  }
  return {core::ExitCode::kOk, "accepted"};
}

TEST(ShardTree, MoreRanksThanShardsIsRefusedWithTheFix) {
  const core::Error error = refusal(4, 5);
  EXPECT_EQ(error.code(), core::ExitCode::kBadConfig);
  EXPECT_STREQ(error.what(),
               "error: parallelism.reduction_shards: expected at least the number of ranks, 5, got "
               "4; raise parallelism.reduction_shards to 8 or start at most 4 ranks");
}

TEST(ShardTree, OnlyPowersOfTwoAreAccepted) {
  for (int64_t shards :
       {int64_t{-4}, int64_t{0}, int64_t{3}, int64_t{12}, INT64_MIN, INT64_MAX, int64_t{1} << 62})
    EXPECT_EQ(refusal(shards, 1).code(), core::ExitCode::kBadConfig) << shards;
}

TEST(LaunchFault, TasksOfSlurmThatDoNotSeeEachOther) {
  EXPECT_FALSE(launch_fault(1, nullptr, nullptr));
  EXPECT_FALSE(launch_fault(1, "1", nullptr));
  EXPECT_FALSE(launch_fault(4, "4", nullptr));
  EXPECT_FALSE(launch_fault(1, "4", "1")) << "mpirun -np 1 inside an allocation";
  const auto fault = launch_fault(1, "4", nullptr);
  ASSERT_TRUE(fault);
  EXPECT_NE(core::format_fault(*fault).find("srun --mpi=pmix"), std::string::npos);
}

}  // namespace
}  // namespace trainer
