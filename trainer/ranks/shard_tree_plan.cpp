#include "trainer/ranks/shard_tree_plan.h"

#include <bit>
#include <string>

namespace trainer {
namespace {

constexpr int64_t kMaxShards = int64_t{1} << 30;  // keeps rank x shards far from overflow

}  // namespace

ShardPlan::ShardPlan(int64_t shards, int ranks, int rank)
    : shards_(shards), ranks_(ranks), rank_(rank) {
  const core::Fault fault{.field = "parallelism.reduction_shards", .found = std::to_string(shards)};
  if (shards < 1 || shards > kMaxShards || !std::has_single_bit(static_cast<uint64_t>(shards))) {
    core::Fault not_a_power = fault;
    not_a_power.expected = "a power of two";
    core::fail(core::ExitCode::kBadConfig, not_a_power);
  }
  if (ranks > shards) {
    core::Fault too_few = fault;
    too_few.expected = "at least the number of ranks, " + std::to_string(ranks);
    too_few.hint = "raise parallelism.reduction_shards to " +
                   std::to_string(std::bit_ceil(static_cast<uint64_t>(ranks))) +
                   " or start at most " + std::to_string(shards) + " ranks";
    core::fail(core::ExitCode::kBadConfig, too_few);
  }
  plan(root());
  std::stable_sort(merges_.begin(), merges_.end(),
                   [](const Merge& a, const Merge& b) { return a.left.level < b.left.level; });
}

ShardRange ShardPlan::range(int rank) const {
  return {rank * shards_ / ranks_, (rank + 1) * shards_ / ranks_};
}

int ShardPlan::owner(int64_t shard) const {
  return static_cast<int>(((shard + 1) * ranks_ - 1) / shards_);
}

void ShardPlan::plan(TreeNode node) {
  const int64_t width = int64_t{1} << node.level;
  if (owner(node.first) == owner(node.first + width - 1)) return;
  const TreeNode left{node.first, node.level - 1};
  const TreeNode right{node.first + width / 2, node.level - 1};
  plan(left);
  plan(right);
  merges_.push_back({left, right, owner(left.first), owner(right.first)});
}

std::vector<TreeNode> ShardPlan::subtrees(int rank) const {
  PendingNodes<char> nodes;
  for (int64_t shard = range(rank).begin; shard < range(rank).end; ++shard)
    nodes.push_leaf(shard, 0, [](char&, char) {});
  return nodes.nodes();
}

int ShardPlan::peak_values() const {
  PendingNodes<char> nodes;
  size_t peak = 0;
  for (int64_t shard = range().begin; shard < range().end; ++shard) {
    peak = std::max(peak, nodes.size() + 1);
    nodes.push_leaf(shard, 0, [](char&, char) {});
  }
  return static_cast<int>(peak);
}

}  // namespace trainer
