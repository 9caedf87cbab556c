// Memory for tensors: freed blocks are kept by size and handed out again. The shapes of a training
// step repeat, so after the second step nothing is asked of the operating system (a test holds it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "autograd/core/dtype.h"

namespace ag {

struct Block {
  std::byte* data;
  size_t bytes;  // rounded up
};

struct PoolStatistics {
  int64_t live_bytes = 0;    // in use by tensors
  int64_t peak_bytes = 0;    // highest live_bytes since reset_peak
  int64_t cached_bytes = 0;  // free, kept for reuse
  int64_t os_allocations = 0;
};

class Pool {
 public:
  // A block of at least `bytes` bytes, 64-byte aligned, contents undefined. Returns to the pool
  // when the last owner lets go. Throws kOutOfMemory naming the size.
  static std::shared_ptr<Block> take(Device device, size_t bytes);
  static PoolStatistics statistics(Device device = Device::cpu);
  static void reset_peak(Device device = Device::cpu);
  static void release_cached(Device device = Device::cpu);
};

}  // namespace ag
