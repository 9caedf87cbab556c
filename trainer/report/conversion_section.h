// What conversions did: pairs that kept their rotation, what the truncation lost, loss and size.
#pragma once

#include <vector>

#include "trainer/report/page.h"
#include "trainer/report/run_record.h"

namespace trainer {

// `pretraining_tokens` of the source models, 0 if unknown. Requires: each run has a conversion.
ReportSection conversion_section(const std::vector<RunRecord>& runs, int64_t pretraining_tokens);

}  // namespace trainer
