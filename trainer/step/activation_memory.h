// Memory of the tensors of one micro-batch, by what the operations keep and make: a formula of the
// configuration, which a test holds against what the pool counts. Left out are the copies of a
// product's operands in f32 that bf16 takes below AVX-512.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "trainer/config/config.h"

namespace trainer {

inline constexpr uint64_t kFloatBytes = 4;  // of an f32

struct ActivationMemory {
  uint64_t kept = 0;  // at the end of the forward, for the backward; with the RoPE table
  uint64_t loss = 0;  // beyond it while the loss is computed: a chunk of logits, rows in and out
  uint64_t backward =
      0;  // beyond it at the widest place of the backward, recomputed layer included

  uint64_t peak() const { return kept + (loss > backward ? loss : backward); }
};

// `spec` is that of the model that is trained.
ActivationMemory activation_memory(const Config& config, const model::ModelSpec& spec);

}  // namespace trainer
