// Memory that the ranks of one host share: a block of each, mapped by all. Ends with the last
// process that maps it: nothing to clean up after a kill, and no mount whose size limits it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "trainer/ranks/comm.h"

namespace trainer {

class SharedMemory {
 public:
  // Collective. `bytes` of zeros per rank (they may differ), touched only by use. Null, on every
  // rank, where the ranks are on several hosts or may not see each other's memory (containers).
  static std::unique_ptr<SharedMemory> create(Comm& comm, size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // 4096-aligned.
  std::span<std::byte> of_rank(int rank) const { return blocks_[static_cast<size_t>(rank)]; }

 private:
  SharedMemory() = default;

  std::vector<std::span<std::byte>> blocks_;
};

}  // namespace trainer
