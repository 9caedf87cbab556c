// What must be the same on all ranks of a run, compared before it starts: ranks that differ would
// wait for each other for ever, or train different models.
#pragma once

#include <string>

#include "core/error.h"
#include "trainer/ranks/comm.h"

namespace trainer {

// Collective. Throws AgreedError kBadConfig, with `fault` filled in, if `value` is not rank 0's.
void require_same_on_ranks(Comm& comm, const std::string& value, core::Fault fault);

// The same for a text of several lines; the message shows the first line that differs.
void require_same_text_on_ranks(Comm& comm, const std::string& text, core::Fault fault);

// Collective. mpirun can start its ranks with different programs.
void require_same_program(Comm& comm);

}  // namespace trainer
