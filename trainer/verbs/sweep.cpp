// sweep: a list of trials from one file, trained side by side, and one table of them.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "model/hf_config.h"
#include "trainer/files/manifest.h"
#include "trainer/models/model_folder.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/same_on_ranks.h"
#include "trainer/run/plan.h"
#include "trainer/sweep/plan.h"
#include "trainer/sweep/run.h"
#include "trainer/sweep/table.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

// Of a Hugging Face folder the shapes are known without its weights.
model::ModelSpec read_spec(const std::string& init_from) {
  const fs::path config = fs::path(init_from) / "config.json";
  if (fs::exists(config) && !fs::exists(fs::path(init_from) / kManifestName))
    return model::ModelSpec::unconverted(model::read_hf_config(config));
  return load_model(init_from).model.spec;
}

std::string describe(const SweepOptions& options, const SweepPlan& plan,
                     const std::vector<size_t>& selected) {
  std::string text =
      fmt::format("--list {}\n--dry-run {}\n--fail-fast {}\nranks_per_trial {}\n", options.list,
                  options.dry_run, options.fail_fast, plan.ranks_per_trial);
  for (const size_t t : selected) text += dump_resolved(plan.trials[t].config);
  return text;
}

// The check of each trial before training, all of them: what is wrong is told at once.
void check_trials(const SweepOptions& options, const SweepPlan& plan,
                  const std::vector<size_t>& selected, Session& session) {
  session.comm.run_agreed([&] {
    if (session.comm.rank() != 0) return;
    for (const size_t t : selected)
      plan_of(options.config, plan.trials[t].config, static_cast<int>(plan.ranks_per_trial),
              PlanFor::kStart);
  });
  session.say(fmt::format("{} trials are fine; nothing was started", selected.size()));
}

}  // namespace

nlohmann::json run_sweep(const SweepOptions& options, Session& session) {
  SweepPlan plan;
  std::vector<size_t> selected;
  session.comm.run_agreed([&] {
    plan = plan_sweep(load_sweep(options.config), options.overrides, read_spec);
    selected = select_trials(plan, options.only, options.shard);
  });
  if (session.comm.size() > 1) {
    require_same_program(session.comm);
    require_same_text_on_ranks(
        session.comm, describe(options, plan, selected),
        {.path = options.config,
         .field = "sweep",
         .hint = "start all ranks with the same configuration and arguments"});
  }
  if (options.list) {
    const nlohmann::json report = sweep_report(plan);
    session.say(sweep_list(plan, report, selected));
    return report;
  }
  if (options.dry_run) {
    check_trials(options, plan, selected, session);
    return sweep_report(plan);
  }
  return run_trials(plan, selected, options.fail_fast, session);
}

}  // namespace trainer
