// All that can be known to be wrong with a run before it starts: source model, conversion, data,
// run folder, disk, memory, threads. Nothing is written.
#pragma once

#include <nlohmann/json.hpp>

#include "trainer/config/config.h"

namespace trainer {

enum class PlanFor {
  kStart,   // only what would stop the run
  kReport,  // and what a conversion will need, which takes a measurement
};

// The report of `mha2mla validate`: {model, conversion, data, validation, run, disk, memory,
// threads, warnings}. `ranks` are all taken to be on this node. Throws the first thing that would
// stop the run: kBadConfig, kMissingInput (naming the command that makes what is missing),
// kBadData, kPermission, kIo (disk), kOutOfMemory.
nlohmann::json preflight(const Config& config, int ranks, PlanFor purpose);

}  // namespace trainer
