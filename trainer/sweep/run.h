// The trials of a sweep on the ranks of the program: groups of ranks_per_trial ranks take them from
// the queue, one after the other, each a training run as the verb `train` has it.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "trainer/ranks/session.h"
#include "trainer/sweep/plan.h"

namespace trainer {

// Collective. Returns the content of sweep.json. A trial that fails is told, and the others go on;
// at the end throws AgreedError: kPreempted after a stop on request, else the code of the first
// trial that failed, kRunLocked when trials are left that another job holds. Throws kBadConfig when
// the ranks cannot be dealt to groups.
nlohmann::json run_trials(const SweepPlan& plan, const std::vector<size_t>& selected,
                          bool fail_fast, Session& session);

}  // namespace trainer
