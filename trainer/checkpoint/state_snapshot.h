// A copy of the state at a step boundary that training can no longer change: what a checkpoint is
// written from while the run goes on. It is whole also where tensors are dealt to the ranks:
//   rank 0: take()    all: gather_dealt()    rank 0: complete()
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/checkpoint/state_registry.h"
#include "trainer/ranks/comm.h"

namespace trainer {

class StateSnapshot {
 public:
  // Room for everything in the registry, reserved at once: a run that can start can also save.
  // Throws kOutOfMemory.
  explicit StateSnapshot(const StateRegistry& registry);

  // Copies tensors and values, and hashes each tensor on the way, on all threads; of dealt tensors
  // the own elements, without a hash.
  // Requires: the registry has the entries that it had at construction.
  void take(const StateRegistry& registry);
  // Hashes the dealt tensors, whose elements have all come in.
  void complete(const StateRegistry& registry);

  // The copy's memory of elements of a dealt tensor.
  std::span<std::byte> elements(const std::string& name, const ag::ElementRange& range);

  // Of the last take(), once complete; its sources carry their hashes and point into the copy.
  const StateView& view() const { return view_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Unmap {
    size_t size;
    void operator()(std::byte* memory) const;
  };
  size_t index_of(const std::string& name) const;

  StateView view_;
  std::vector<uint64_t> offsets_;
  uint64_t bytes_ = 0;
  std::unique_ptr<std::byte, Unmap> memory_;
};

// Collective. What the other ranks have of dealt tensors comes into the copy of rank 0 (null
// elsewhere), straight into its place; nothing is sent when nothing is dealt.
void gather_dealt(Comm& comm, const StateRegistry& registry, StateSnapshot* snapshot);

}  // namespace trainer
