// Trials of a sweep side by side: table, cache against perplexity, strategies against ranks.
#pragma once

#include <vector>

#include "trainer/report/page.h"
#include "trainer/report/sweep_record.h"

namespace trainer {

ReportSection sweep_section(const SweepRecord& sweep);

// Indices of the points that no other is left of and below, by ascending x; NaN is never among
// them.
std::vector<size_t> pareto_front(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace trainer
