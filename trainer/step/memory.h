// Memory and disk of this machine, and what a run needs of them.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "trainer/config/config.h"

namespace trainer {

// Bytes that a process may still take: the kernel's estimate, or what the cgroup leaves if less.
uint64_t available_memory_bytes();

// Program, libraries of linear algebra, MPI and HDF5, and their buffers: measured.
inline constexpr uint64_t kRuntimeBytes = uint64_t{120} << 20;

// Bytes of one rank, but for `snapshot`. Exact but for alignment, `activations` (a formula) and
// `runtime` (measured once).
struct MemoryEstimate {
  uint64_t weights = 0;      // masters or a share of them, and the bf16 copies
  uint64_t gradients = 0;    // every buffer of the shard tree at its peak, and what it receives
  uint64_t optimizer = 0;    // two moments, or a share of them
  uint64_t activations = 0;  // of one micro-batch at their peak; trainer/step/activation_memory.h
  uint64_t runtime = 0;      // what is there before the first tensor
  uint64_t snapshot = 0;     // rank 0 alone: the copy that a checkpoint is written from

  uint64_t per_rank() const { return weights + gradients + optimizer + activations + runtime; }
  uint64_t all(int ranks) const { return static_cast<uint64_t>(ranks) * per_rank() + snapshot; }
};

// `spec` is that of the model that is trained. Throws kBadConfig for more ranks than shards.
MemoryEstimate estimate_memory(const Config& config, const model::ModelSpec& spec, int ranks);

// The largest micro_batch_size below the configured one that divides global_batch_size and with
// which all ranks fit into `available` bytes; 0: none.
int64_t fitting_micro_batch(const Config& config, const model::ModelSpec& spec, int ranks,
                            uint64_t available);

// Parameters in f32, and both moments of the trainable ones.
uint64_t checkpoint_bytes(const Config& config, const model::ModelSpec& spec);

}  // namespace trainer
