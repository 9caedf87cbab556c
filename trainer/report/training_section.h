// Training of one run or several: curves over steps, and what each run came to.
#pragma once

#include <vector>

#include "trainer/report/page.h"
#include "trainer/report/run_record.h"

namespace trainer {

ReportSection training_section(const std::vector<RunRecord>& runs);

// Mean of each value and `reach` neighbours on either side, of those that are there and finite.
std::vector<double> smooth(const std::vector<double>& values, size_t reach);

}  // namespace trainer
