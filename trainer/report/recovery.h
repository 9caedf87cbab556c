// How much of what a conversion lost the training brought back:
//   closed(t) = (val(0) - val(t)) / (val(0) - val of the source), in percent.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/report/page.h"
#include "trainer/report/run_record.h"

namespace trainer {

// By training tokens; empty for a run without a source, a conversion that lost nothing, or fewer
// than two validations.
Curve recovery_of(const RunRecord& run);

// Over tokens, or per mille of `pretraining_tokens` if that is not 0. `file` is empty if no run has
// a recovery.
Figure recovery_figure(const std::vector<RunRecord>& runs, int64_t pretraining_tokens);

}  // namespace trainer
