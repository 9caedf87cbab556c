// train --replay STEP: computes a recorded step of a run once more and compares the bits. Training
// is a function of configuration, data and checkpoint alone, so a difference is a fault of the
// machine, then or now, or another program.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "trainer/config/config.h"
#include "trainer/ranks/session.h"
#include "trainer/run/train_options.h"

namespace trainer {

struct ReplayResult {
  int64_t step = 0, from = 0;    // recomputed from the checkpoint of step `from`
  int64_t lines = 0;             // of metrics.jsonl that were compared
  bool checkpoint = false;       // of `step`: compared as well
  std::string first_difference;  // empty: equal
  std::string expected, found;   // of it
};

// {step, from, steps_recomputed, equal, first_difference}; the last is null when equal.
nlohmann::json to_json(const ReplayResult& result);

// Collective. Starts from the checkpoint options.resume, or the run's newest valid one before
// options.replay, and goes to that step; compares loss and gradient norm of every recorded step on
// the way, and the state with the checkpoint of the step if there is one. Writes nothing into the
// run. Throws kNoValidCheckpoint when there is nothing to start from, kMissingInput when nothing is
// recorded to compare with, kBadConfig for settings that are not those of the checkpoint,
// kPreempted when a stop was asked for.
ReplayResult replay(Config config, const TrainOptions& options, Session& session);

}  // namespace trainer
