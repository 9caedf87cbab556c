#include "trainer/report/sweep_record.h"

#include <fmt/format.h>

#include <map>

#include "core/error.h"
#include "core/json.h"
#include "trainer/files/lenient_json.h"

namespace trainer {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// What a plan may have (trainer/sweep/plan.cpp), and at worst a baseline for each of them.
constexpr size_t kMostTrials = 20'000;

TrialRecord read_trial(const json& trial) {
  return {.id = text_at(trial, {"id"}),
          .state = text_at(trial, {"state"}),
          .message = text_at(trial, {"message"}),
          .baseline = value_at(trial, {"baseline"}) == json(true),
          .strategy = text_at(trial, {"strategy"}),
          .method = text_at(trial, {"method"}),
          .pairs_per_head = number_at(trial, {"rope_pairs_per_head"}),
          .latent_dims_per_kv_head = number_at(trial, {"latent_dims_per_kv_head"}),
          .cache_before = number_at(trial, {"cache_bytes_per_token", "before"}),
          .cache_after = number_at(trial, {"cache_bytes_per_token", "after"}),
          .steps = number_at(trial, {"steps"}),
          .tokens = number_at(trial, {"tokens"}),
          .seconds = number_at(trial, {"seconds"}),
          .source_loss = number_at(trial, {"validation", "source", "mean_nll"}),
          .before = number_at(trial, {"validation", "before", "mean_nll"}),
          .after = number_at(trial, {"validation", "after", "mean_nll"})};
}

// A sweep.json that came from elsewhere may name any path; its trials lie beside it.
bool lies_beside(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos;
}

// `uses`: how many trials have named a folder, under whatever name of it. A run is read once.
void read_run_of(const json& trial, std::map<fs::path, int>& uses, SweepRecord& sweep) {
  const std::string folder = text_at(trial, {"run"});
  std::error_code error;
  if (!lies_beside(folder) || !fs::is_directory(sweep.path / folder, error)) return;
  const fs::path whole = fs::canonical(sweep.path / folder, error);
  const int use = ++uses[error ? sweep.path / folder : whole];
  if (use == 2)
    sweep.notes.push_back(fmt::format("{}: the run of more than one trial, shown once.", folder));
  if (use > 1) return;
  try {
    sweep.runs.push_back(read_run(sweep.path / folder));
  } catch (const core::Error& fault) {
    sweep.notes.emplace_back(fault.what());
  }
}

}  // namespace

bool is_sweep(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path / "sweep.json", error);
}

SweepRecord read_sweep(const fs::path& path) {
  const json sweep = core::read_json(path / "sweep.json");
  SweepRecord record{
      .path = path, .name = text_at(sweep, {"name"}), .trials = {}, .runs = {}, .notes = {}};
  if (record.name.empty()) record.name = "sweep";
  const json& trials = value_at(sweep, {"trials"});
  if (text_at(sweep, {"format"}) != "mha2mla-sweep" || !trials.is_array() || trials.empty())
    core::fail(core::ExitCode::kBadData, {.path = path / "sweep.json",
                                          .field = "trials",
                                          .expected = "format mha2mla-sweep and a list of trials",
                                          .found = "neither"});
  if (trials.size() > kMostTrials)
    core::fail(core::ExitCode::kBadData, {.path = path / "sweep.json",
                                          .field = "trials",
                                          .expected = fmt::format("at most {}", kMostTrials),
                                          .found = std::to_string(trials.size())});
  std::map<fs::path, int> uses;
  for (const json& trial : trials) {
    if (!trial.is_object()) continue;
    record.trials.push_back(read_trial(trial));
    read_run_of(trial, uses, record);
  }
  name_apart(record.runs);
  return record;
}

}  // namespace trainer
