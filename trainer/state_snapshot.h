// A copy of the state at a step boundary that training can no longer change: what a checkpoint is
// written from while the run goes on.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "trainer/state_registry.h"

namespace trainer {

class StateSnapshot {
 public:
  // Room for everything in the registry, reserved at once: a run that can start can also save.
  // Throws kOutOfMemory.
  explicit StateSnapshot(const StateRegistry& registry);

  // Copies tensors and values, and hashes each tensor on the way, on all threads.
  // Requires: the registry has the entries that it had at construction.
  void take(const StateRegistry& registry);

  // Of the last take(); its sources carry their hashes and point into the copy.
  const StateView& view() const { return view_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Unmap {
    size_t size;
    void operator()(std::byte* memory) const;
  };
  StateView view_;
  std::vector<uint64_t> offsets_;
  uint64_t bytes_ = 0;
  std::unique_ptr<std::byte, Unmap> memory_;
};

}  // namespace trainer
