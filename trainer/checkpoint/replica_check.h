// Do all ranks hold the same state? In data-parallel training they must, to the bit: a difference
// is a fault of a processor or of memory, or a bug, and nothing else would ever notice it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/state_registry.h"
#include "trainer/ranks/comm.h"

namespace trainer {

// Of each entry that every rank has whole: XXH3-128 of its bytes (tensors, constants, replicas;
// ascending by name), and one for all values together. On all threads.
struct StateDigest {
  std::vector<std::string> names;
  std::vector<std::string> hashes;  // of names[i]

  std::string combined() const;  // XXH3-128 of all hashes
};
StateDigest digest_entries(const StateRegistry& registry);

// One hash of all of them: 32 hexadecimal digits.
std::string state_digest(const StateRegistry& registry);

// Collective. Throws AgreedError(kReplicasDiffer) on all ranks when those states differ, naming the
// ranks that differ from most of them - from rank 0 where most do not agree - and the first entry
// in which each does.
void require_equal_replicas(Comm& comm, const StateRegistry& registry);

}  // namespace trainer
