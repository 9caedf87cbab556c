// Memory and disk of this machine, and what a run needs of them.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "trainer/config.h"

namespace trainer {

// Bytes that a process may still take: the kernel's estimate, or what the cgroup leaves if less.
uint64_t available_memory_bytes();

// Bytes of one rank. Exact but for alignment and `activations`, which is the sum of the tensors
// that the operations of one micro-batch keep for the backward pass.
struct MemoryEstimate {
  uint64_t weights = 0;      // masters, and the bf16 copies when computing in bf16
  uint64_t gradients = 0;    // every buffer of the shard tree at its peak
  uint64_t optimizer = 0;    // two moments
  uint64_t activations = 0;  // of one micro-batch

  uint64_t total() const { return weights + gradients + optimizer + activations; }
};

// `spec` is that of the model that is trained. Throws kBadConfig for more ranks than shards.
MemoryEstimate estimate_memory(const Config& config, const model::ModelSpec& spec, int ranks);

// Parameters in f32, and both moments of the trainable ones.
uint64_t checkpoint_bytes(const Config& config, const model::ModelSpec& spec);

}  // namespace trainer
