// The model a run starts from: the source as it is, or converted on the way in. The conversion is
// done by rank 0, kept in the run folder (converted/), and read from there by every rank.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/convert.h"
#include "trainer/config/config.h"
#include "trainer/files/log.h"
#include "trainer/models/model_folder.h"
#include "trainer/step/trainer.h"

namespace trainer {

// What the section asks for; `pairs` are those of the source's heads, all of which `full` keeps.
model::ConversionOptions conversion_options(const MlaConfig& mla, int64_t pairs);

// What a conversion is calibrated and measured on: the first windows of the training mixture (the
// first S ids of its first samples), or of the given shards in equal parts. Requires: an mla
// section.
std::vector<WindowSource> calibration_windows(const Config& config, int64_t vocab_size);

struct PreparedModel {
  model::Model model;
  std::vector<Companion> companions;
  bool converted = false;             // this run converted it
  int64_t source_cache_elements = 0;  // per token, of the model it came from
  nlohmann::json
      source_validation;  // SET -> {nll, ppl, tokens} of the source; null without conversion
  nlohmann::json parity;  // the parity report; null without conversion
};

// Collective. `run_folder` exists. With `mla` in the configuration and an unconverted source:
// calibrates (2-norm), converts, reports; a finished conversion of the same source and settings is
// used again. `resuming`: the weights will come from a checkpoint, and any finished conversion of
// this run will do, because the checkpoint refuses another structure. Calibration and losses of the
// source are looked for, and left, in `shared` (trainer/run/shared_results.h) unless that is empty.
PreparedModel prepare_model(const Config& config, const std::filesystem::path& run_folder,
                            bool resuming, const std::filesystem::path& shared, Comm& comm,
                            const Log& log);

// {SET: {nll, ppl, tokens}, ...} and the mean nll of the sets under "mean_nll".
nlohmann::json to_json(const std::vector<SetResult>& results);

}  // namespace trainer
