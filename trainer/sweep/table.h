// What a sweep has found so far: sweep.json (docs/sweeps.md), and the same as sweep.csv and
// sweep.md, a row per trial.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/sweep/plan.h"

namespace trainer {

// The content of sweep.json, from what is in the sweep folder.
nlohmann::json sweep_report(const SweepPlan& plan);

std::string sweep_csv(const nlohmann::json& report);
std::string sweep_markdown(const nlohmann::json& report);

// Replaces the three files. Any process may, at any time: one at a time, and none by older news.
void write_sweep_tables(const SweepPlan& plan);

// The selected trials with cache, cost and state, and what remains to be done; for people.
std::string sweep_list(const SweepPlan& plan, const nlohmann::json& report,
                       const std::vector<size_t>& selected);

}  // namespace trainer
