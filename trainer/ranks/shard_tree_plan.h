// The fixed binary tree over s = parallelism.reduction_shards leaves, and who computes what of it.
// Shard j belongs to the rank r with r s / R <= j < (r + 1) s / R (floor); a node is computed, as
// left + right, by the owner of its leftmost leaf. The tree does not know R, so neither do its
// bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace trainer {

struct ShardRange {
  int64_t begin = 0, end = 0;  // [begin, end)
  int64_t size() const { return end - begin; }
};

// The leaves [first, first + 2^level).
struct TreeNode {
  int64_t first = 0;
  int level = 0;
  friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

inline bool are_siblings(const TreeNode& left, const TreeNode& right) {
  const int64_t width = int64_t{1} << left.level;
  return left.level == right.level && left.first % (2 * width) == 0 &&
         right.first == left.first + width;
}

// An addition that no single rank can do from its own leaves.
struct Merge {
  TreeNode left, right;
  int left_owner = 0, right_owner = 0;  // equal if the parts came together at this rank before
};

class ShardPlan {
 public:
  // Throws kBadConfig unless `shards` is a power of two and at least `ranks`.
  ShardPlan(int64_t shards, int ranks, int rank);

  int64_t shards() const { return shards_; }
  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  ShardRange range() const { return range(rank_); }
  ShardRange range(int rank) const;
  int owner(int64_t shard) const;
  TreeNode root() const { return {0, std::countr_zero(static_cast<uint64_t>(shards_))}; }
  // The subtrees that a rank completes from its own leaves; ascending. Those of all ranks, in the
  // order of the ranks, make the whole tree.
  std::vector<TreeNode> subtrees(int rank) const;
  // Bottom-up. Every rank walks the same list, so that blocking messages cannot form a cycle.
  const std::vector<Merge>& merges() const { return merges_; }
  // Most values alive at once while this rank's leaves come in, ascending: log2(k) + 1 for k leaves
  // if R is a power of two, otherwise at most 2 log2(k) + 1 because both ends may be unaligned.
  int peak_values() const;

 private:
  void plan(TreeNode node);

  int64_t shards_;
  int ranks_, rank_;
  std::vector<Merge> merges_;
};

// One rank's values of complete nodes whose sibling is not known yet, leaves ascending.
template <class Value>
class PendingNodes {
 public:
  // Adds a leaf and merges what it completes; add(left, right) does left += right.
  // Requires: leaves come in ascending order.
  template <class Add>
  void push_leaf(int64_t shard, Value value, Add&& add) {
    push({shard, 0}, std::move(value), add);
  }
  // The same for a node. Requires: nodes come in ascending order and do not overlap.
  template <class Add>
  void push(const TreeNode& node, Value value, Add&& add) {
    entries_.emplace_back(node, std::move(value));
    while (entries_.size() >= 2 &&
           are_siblings(entries_[entries_.size() - 2].first, entries_.back().first)) {
      Value right = std::move(entries_.back().second);
      entries_.pop_back();
      add(entries_.back().second, std::move(right));
      ++entries_.back().first.level;
    }
  }

  Value& at(const TreeNode& node) { return find(node)->second; }
  Value take(const TreeNode& node) {
    const auto entry = find(node);
    Value value = std::move(entry->second);
    entries_.erase(entry);
    return value;
  }
  // The value at `left` now stands for its parent.
  void raise(const TreeNode& left) { ++find(left)->first.level; }

  std::vector<Value> take_all() {
    std::vector<Value> values;
    for (auto& entry : entries_) values.push_back(std::move(entry.second));
    entries_.clear();
    return values;
  }

  std::vector<TreeNode> nodes() const {
    std::vector<TreeNode> nodes;
    for (const auto& entry : entries_) nodes.push_back(entry.first);
    return nodes;
  }
  size_t size() const { return entries_.size(); }

 private:
  auto find(const TreeNode& node) {
    const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const auto& e) { return e.first == node; });
    if (entry == entries_.end())
      core::fail(core::ExitCode::kInternal,
                 {.field = "shard tree",
                  .expected = "a sum of level " + std::to_string(node.level) + " from shard " +
                              std::to_string(node.first),
                  .found = "none"});
    return entry;
  }

  std::vector<std::pair<TreeNode, Value>> entries_;
};

// The part of the tree above the ranks' own subtrees. Afterwards rank 0 alone holds a value, that
// of the root. send(rank, value); receive_add(rank, left) does left += the value received.
template <class Value, class Add, class Send, class ReceiveAdd>
void exchange(const ShardPlan& plan, PendingNodes<Value>& nodes, Add&& add, Send&& send,
              ReceiveAdd&& receive_add) {
  for (const Merge& merge : plan.merges()) {
    const bool has_left = merge.left_owner == plan.rank();
    const bool has_right = merge.right_owner == plan.rank();
    if (has_left && has_right) {
      Value right = nodes.take(merge.right);
      add(nodes.at(merge.left), std::move(right));
    } else if (has_left) {
      receive_add(merge.right_owner, nodes.at(merge.left));
    } else if (has_right) {
      send(merge.left_owner, nodes.take(merge.right));
    }
    if (has_left) nodes.raise(merge.left);
  }
}

}  // namespace trainer
