// The last part of a step whose optimizer work is dealt to the ranks: each sends the weights that
// it updated to all others, as they compute with them.
#pragma once

#include "autograd/params.h"
#include "trainer/ranks/comm.h"

namespace trainer {

// Collective. Afterwards all ranks compute with the same weights. Requires: params.share() is this
// rank's of comm.size().
void exchange_weights(Comm& comm, ag::ParamStore& params);

}  // namespace trainer
