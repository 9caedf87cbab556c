#include "data/nanoset_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/checked.h"
#include "core/error.h"
#include "core/hash.h"

namespace data {
namespace {

using core::ExitCode;

void require(bool holds, const std::string& field, const std::string& expected, int64_t found) {
  if (!holds)
    core::fail(ExitCode::kBadConfig,
               {.field = field, .expected = expected, .found = std::to_string(found)});
}

void check_plan(const BatchPlan& plan) {
  require(plan.micro_batch_size > 0, "tokens.micro_batch_size", "a positive number",
          plan.micro_batch_size);
  require(plan.global_batch_size > 0 && plan.global_batch_size % plan.micro_batch_size == 0,
          "tokens.global_batch_size",
          "a positive multiple of micro_batch_size " + std::to_string(plan.micro_batch_size),
          plan.global_batch_size);
  require(plan.train_steps > 0, "tokens.train_steps", "a positive number", plan.train_steps);
  const auto samples = core::checked_mul(static_cast<uint64_t>(plan.train_steps),
                                         static_cast<uint64_t>(plan.global_batch_size));
  require(samples && *samples <= INT64_MAX, "tokens.train_steps",
          "train_steps * global_batch_size below 2^63", plan.train_steps);
}

void check_starts(const std::vector<DataStage>& stages, int64_t train_steps) {
  require(!stages.empty(), "data_stages", "at least one stage", 0);
  int64_t least = 1;
  for (size_t i = 0; i < stages.size(); ++i) {
    const int64_t start = stages[i].start_training_step;
    const std::string field = fmt::format("data_stages[{}].start_training_step", i);
    if (i == 0) require(start == 1, field, "1 for the first stage", start);
    require(start >= least, field, "a step after the start of the stage before", start);
    require(start <= train_steps, field, "at most train_steps " + std::to_string(train_steps),
            start);
    least = start + 1;
  }
}

}  // namespace

NanosetStages::NanosetStages(const std::vector<DataStage>& stages, const BatchPlan& plan)
    : plan_(plan) {
  check_plan(plan);
  check_starts(stages, plan.train_steps);
  for (size_t i = 0; i < stages.size(); ++i) {
    const DataStage& stage = stages[i];
    const int64_t end =
        i + 1 < stages.size() ? stages[i + 1].start_training_step : plan.train_steps + 1;
    const Nanoset& nanoset = nanosets_.emplace_back(NanosetConfig{
        .folders = stage.folders,
        .weights = stage.weights,
        .sequence_length = plan.sequence_length,
        .seed = stage.seed,
        .vocab_size = plan.vocab_size,
        .samples_needed = (end - stage.start_training_step) * plan.global_batch_size});
    require(nanoset.samples_per_epoch() >= plan.global_batch_size,
            fmt::format("samples of data stage \"{}\"", stage.name),
            "at least one global batch of " + std::to_string(plan.global_batch_size),
            nanoset.samples_per_epoch());
    starts_.push_back(stage.start_training_step);
    names_.push_back(stage.name);
  }
}

size_t NanosetStages::stage_of(int64_t step) const {
  if (step < 1 || step > plan_.train_steps)
    core::fail(ExitCode::kInternal, {.field = "training step",
                                     .expected = fmt::format("in [1, {}]", plan_.train_steps),
                                     .found = std::to_string(step)});
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), step);
  return static_cast<size_t>(after - starts_.begin()) - 1;
}

void NanosetStages::read_micro_batch(int64_t step, int64_t micro_index, int32_t* inputs,
                                     int32_t* targets) const {
  if (micro_index < 0 || micro_index >= micro_batches())
    core::fail(ExitCode::kInternal, {.field = "micro-batch",
                                     .expected = "below " + std::to_string(micro_batches()),
                                     .found = std::to_string(micro_index)});
  const size_t stage = stage_of(step);
  const int64_t S = plan_.sequence_length;
  const int64_t first =
      (step - starts_[stage]) * plan_.global_batch_size + micro_index * plan_.micro_batch_size;
  std::vector<int32_t> tokens(static_cast<size_t>(S) + 1);
  for (int64_t row = 0; row < plan_.micro_batch_size; ++row) {
    nanosets_[stage].sample(first + row, tokens.data());
    std::copy_n(tokens.data(), S, inputs + row * S);
    std::copy_n(tokens.data() + 1, S, targets + row * S);
  }
}

void NanosetStages::check_vocab(int64_t vocab_size) const {
  for (const Nanoset& nanoset : nanosets_) nanoset.check_vocab(vocab_size);
}

nlohmann::json NanosetStages::describe() const {
  nlohmann::json stages = nlohmann::json::array();
  for (size_t i = 0; i < nanosets_.size(); ++i) {
    nlohmann::json stage = nanosets_[i].describe();
    stage["name"] = names_[i];
    stage["start_training_step"] = starts_[i];
    stages.push_back(std::move(stage));
  }
  return stages;
}

std::string NanosetStages::fingerprint() const {
  std::string all = std::to_string(plan_.global_batch_size);
  for (size_t i = 0; i < nanosets_.size(); ++i)
    all += fmt::format(" {}:{}", starts_[i], nanosets_[i].fingerprint());
  return core::hash_hex(all);
}

}  // namespace data
