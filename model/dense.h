// MLA -> Llama: the latent multiplied out, exactly.
#pragma once

#include <string>

#include "model/weights.h"

namespace model {

// A model of plain q, k, v that computes the same function: v = v_up kv_down, k = k_rope, computed
// in float64 and rounded once to float32. Every other weight is the model's own; a model without
// latent comes back as it is. Throws kBadConfig naming `origin` and the layer where a pair has lost
// its rotation, which plain RoPE cannot leave out.
Model expand_to_dense(const Model& model, const std::string& origin);

}  // namespace model
