// How the ranks' sums reach each other. A group of elements of the flat gradient is dealt to the
// ranks, an equal part each; every rank adds up its part of all ranks' subtrees, and hands the
// total out. For each group: offer, later take, then publish; groups in the same order on all
// ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "autograd/core/tensor.h"
#include "trainer/ranks/shard_tree.h"

namespace trainer {

// Of what a rank adds up at a time: a part of a group. It should stay in cache.
inline constexpr int64_t kGradientPartBytes = int64_t{1} << 20;

// Elements [begin, end) of the flat gradient.
struct GradientRange {
  int64_t begin = 0, end = 0;
};

// The part of `group` that `rank` adds up; empty for the last ranks of a small group.
GradientRange part_of(const GradientRange& group, int rank, int ranks);

class GradientTransport {
 public:
  virtual ~GradientTransport() = default;

  // Storage for one flat gradient; plan().peak_values() at most.
  virtual ag::Tensor make_buffer() = 0;
  // Collective in effect: returns when nobody reads the last step's total in this rank's memory.
  virtual void begin_step() = 0;

  // `own`: the buffers of this rank's subtrees, ascending, the same for all groups of a step; their
  // elements in `group`, R parts of kGradientPartBytes at most, are final.
  virtual void offer(const GradientRange& group, const std::vector<ag::Tensor>& own) = 0;
  // For the oldest group that was not taken yet, this rank's part of all subtrees in the order of
  // the tree. They may be overwritten. Waits for the other ranks' offers.
  virtual std::vector<ag::Tensor> take() = 0;
  // `sum`: the total of what was taken last, in the memory of its first element.
  virtual void publish(const ag::Tensor& sum) = 0;
  // After the last group: waits for all parts. The total [elements], valid until begin_step().
  virtual ag::Tensor finish() = 0;
};

// Collective. Shared memory where the ranks have it and MHA2MLA_SHARED_MEMORY allows it, else
// messages.
std::unique_ptr<GradientTransport> make_transport(const ShardTree& tree, int64_t elements,
                                                  ag::DType dtype);

// Through Comm; any ranks.
std::unique_ptr<GradientTransport> make_message_transport(const ShardTree& tree, int64_t elements,
                                                          ag::DType dtype);
// Collective. Null on all ranks where they do not share memory.
std::unique_ptr<GradientTransport> make_memory_transport(const ShardTree& tree, int64_t elements,
                                                         ag::DType dtype);

}  // namespace trainer
