// The gradient sum of one step over all shards of all ranks, by the fixed tree:
//   for each own shard j, ascending: accumulate into begin_shard(j); end_shard(j);
//   total = finish();
// and to hide the sum over ranks behind the last shard's backward, between its begin and end:
//   start_sum(range) for elements that nothing will be added to any more.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "autograd/core/tensor.h"
#include "trainer/ranks/gradient_transport.h"
#include "trainer/ranks/shard_tree.h"

namespace trainer {

// Buffers are kept from step to step: after the first step nothing is allocated.
class GradientReduction {
 public:
  // Flat gradients [elements] of f32 or f64. Collective. Requires: `tree` outlives this object.
  GradientReduction(const ShardTree& tree, int64_t elements, ag::DType dtype = ag::DType::f32);

  // A zeroed buffer, valid until end_shard(shard). The first own shard starts a step over; any
  // other order than ascending is an error (kInternal).
  ag::Tensor& begin_shard(int64_t shard);
  // Adds the shard to the subtrees it completes.
  void end_shard(int64_t shard);

  // Elements of the open shard, this rank's last, that are final. Collective: the same ranges in
  // the same order on all ranks, none twice. From here on nobody else reads or writes them.
  void start_sum(const GradientRange& range);
  // Collective, once all own shards have ended. The total, the same bits on all ranks, valid until
  // the next step begins.
  const ag::Tensor& finish();

  // Buffers alive at most, for the memory plan.
  int64_t buffers() const { return tree_->plan().peak_values(); }

 private:
  ag::Tensor take_buffer();
  void start_over();
  // Adds up this rank's subtrees in `range`, and offers it to the other ranks.
  void sum_range(const GradientRange& range);
  // This rank's part of the oldest group that was offered.
  void sum_oldest();
  // The buffers of this rank's subtrees, ascending, all shards in.
  std::vector<ag::Tensor> subtree_buffers() const;

  const ShardTree* tree_;
  int64_t elements_;
  ag::DType dtype_;
  std::unique_ptr<GradientTransport> transport_;  // null: one rank
  int64_t next_ = 0;                              // the shard that begins or ends next
  bool open_ = false;                             // between begin_shard and end_shard
  ag::Tensor last_;  // of the open shard; of the last own shard until the step is over
  ag::Tensor total_;
  PendingNodes<ag::Tensor> nodes_;     // all own shards but the last
  std::vector<GradientRange> summed_;  // ranges of start_sum
  int64_t in_flight_ = 0;              // groups offered and not yet summed
  std::vector<ag::Tensor> free_;
};

}  // namespace trainer
