// Contiguous pieces of the flat gradient that become final together on the way back: once the
// gradients of all its parameters are final, a bucket's sum over the ranks can begin.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "autograd/params.h"
#include "trainer/ranks/gradient_transport.h"

namespace trainer {

class GradientBuckets {
 public:
  // Big enough that a message is worth its latency, small enough that the last one is short.
  static constexpr int64_t kBytes = int64_t{8} << 20;

  // Whole parameters, in the order of the flat gradient, until a bucket has kBytes.
  explicit GradientBuckets(const ag::ParamStore& params);

  // All parameters wait for their gradient again.
  void reset();
  // The bucket that `param` completes; empty when it completes none. Requires: once per parameter
  // after a reset.
  GradientRange complete(const ag::Param& param);

 private:
  std::vector<GradientRange> ranges_;
  std::vector<int64_t> parameters_, waiting_;  // of each bucket
  std::unordered_map<const ag::Param*, size_t> bucket_of_;
};

}  // namespace trainer
