// The threads of a run: one number for all ranks, because the bits of a run know only one.
#pragma once

#include <string>

#include "trainer/config/config.h"
#include "trainer/ranks/comm.h"

namespace trainer {

// Collective. Plans the threads of every rank, takes the fewest that any node grants, and sets them
// here and in the configuration. Returns a warning of one line, or nothing.
std::string fix_threads(Config& config, Comm& comm);

}  // namespace trainer
