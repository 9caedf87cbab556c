// Sums over all ranks whose bits do not depend on the number of ranks: the fixed tree of
// shard_tree_plan.h over gradients (f32, or f64 in tests) and over small vectors of doubles.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/core/tensor.h"
#include "trainer/comm.h"
#include "trainer/shard_tree_plan.h"

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

// The gradient sum of one step:
//   for each own shard j, ascending: accumulate into begin_shard(j); end_shard(j);
//   total = finish();
// Buffers are kept from step to step: after the first step nothing is allocated.
class GradientReduction {
 public:
  static constexpr int64_t kPieceBytes = int64_t{1} << 20;  // of a message between two ranks

  // Flat gradients [elements] of f32 or f64. Requires: `tree` outlives this object.
  GradientReduction(const ShardTree& tree, int64_t elements, ag::DType dtype = ag::DType::f32,
                    ag::Device device = ag::Device::cpu);

  // A zeroed buffer, valid until end_shard(shard). The first own shard starts a step over, whatever
  // became of the one before; any other order than ascending is an error (kInternal).
  ag::Tensor& begin_shard(int64_t shard);
  // Adds the shard to the subtrees it completes.
  void end_shard(int64_t shard);
  // Collective, once all own shards have ended. The total, the same bits on all ranks, valid until
  // the next step begins. The elements are dealt to the ranks in pieces: each rank walks the tree
  // for its pieces, and sends what came out to the others. Every rank sends and receives
  // 2 (R - 1) / R times the gradient, as the best all-reduce does.
  const ag::Tensor& finish();

  // Buffers alive at most, for the memory plan.
  int64_t buffers() const { return tree_->plan().peak_values(); }

 private:
  ag::Tensor take_buffer();
  void add(ag::Tensor& left, ag::Tensor right);
  // `own`: the values of this rank's subtrees; own[0] becomes the total in the elements from
  // `first` on, one piece per rank.
  void reduce_group(int64_t first, std::vector<ag::Tensor>& own);
  ag::Tensor walk_tree(const std::vector<ag::Tensor>& own_pieces);
  ag::Tensor piece_of(int rank, int64_t first, const ag::Tensor& buffer) const;
  void start_over();

  const ShardTree* tree_;
  int64_t elements_;
  ag::DType dtype_;
  ag::Device device_;
  int64_t next_ = 0;                  // the shard that begins or ends next
  bool open_ = false;                 // between begin_shard and end_shard
  ag::Tensor current_;                // of the open shard; after finish the total
  std::vector<ag::Tensor> received_;  // pieces of the other ranks' subtrees, in their order
  PendingNodes<ag::Tensor> nodes_;
  std::vector<ag::Tensor> free_;
};

}  // namespace trainer
