// Sums over all ranks whose bits do not depend on the number of ranks: the fixed tree of
// shard_tree_plan.h, here over small vectors of doubles; over gradients in gradient_reduction.h.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/ranks/comm.h"
#include "trainer/ranks/shard_tree_plan.h"

namespace trainer {

class ShardTree {
 public:
  // Throws kBadConfig unless `shards` is a power of two and at least comm.size().
  // Requires: `comm` outlives the tree.
  ShardTree(Comm& comm, int64_t shards) : comm_(&comm), plan_(shards, comm.size(), comm.rank()) {}

  // The shards of this rank; every rank has at least one.
  ShardRange range() const { return plan_.range(); }
  const ShardPlan& plan() const { return plan_; }
  Comm& comm() const { return *comm_; }

 private:
  Comm* comm_;
  ShardPlan plan_;
};

// Collective. The elementwise sum over all shards, on all ranks. `own[i]` holds the values of shard
// range().begin + i; all have one length, the same on every rank.
std::vector<double> tree_sum(const ShardTree& tree, std::vector<std::vector<double>> own);

}  // namespace trainer
