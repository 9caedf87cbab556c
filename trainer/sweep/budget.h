// What a cache of a given size leaves: per kv head, a source keeps 2 D numbers per token, a joint
// latent 2 r + c, split latents 2 r + 2 c.
#pragma once

#include "model/config.h"
#include "trainer/config/config.h"
#include "trainer/sweep/config.h"

namespace trainer {

// Sets latent_dims_per_kv_head so that the converted cache is exactly `ratio` of the source's with
// the configuration's rotary pairs; with `derives_pairs` the pairs to its latent. Throws kBadConfig
// when no whole number does that.
void fit_to_budget(Config& config, const model::ModelSpec& source, const SweepValue& ratio,
                   bool derives_pairs);

}  // namespace trainer
