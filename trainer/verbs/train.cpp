#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "trainer/ranks/same_on_ranks.h"
#include "trainer/run/plan.h"
#include "trainer/run/replay.h"
#include "trainer/run/training_run.h"

namespace trainer {
namespace {

// A difference is a result as well: its JSON is printed before the exit code says what it means.
nlohmann::json run_replay(const Config& config, const TrainOptions& options, Session& session) {
  const ReplayResult result = replay(config, options, session);
  const std::string steps =
      fmt::format("steps {} to {} computed again from the checkpoint of step {}", result.from + 1,
                  result.step, result.from);
  if (result.first_difference.empty()) {
    session.say(fmt::format("{}: equal bit for bit in {} lines of metrics.jsonl{}", steps,
                            result.lines, result.checkpoint ? " and the checkpoint" : ""));
    return to_json(result);
  }
  if (session.json && session.comm.rank() == 0) {
    std::fputs((to_json(result).dump() + "\n").c_str(), stdout);
    std::fflush(stdout);
  }
  throw AgreedError(
      core::ExitCode::kReplicasDiffer,
      core::Fault{.path = options.config,
                  .place = "--replay",
                  .field = result.first_difference,
                  .expected = result.expected + " as recorded",
                  .found = result.found,
                  .hint = steps + "; a processor or memory was wrong then or is now, "
                                  "or program, threads or instruction set are others"});
}

// mpirun can start its ranks with different programs and arguments.
void require_one_start(const TrainOptions& options, const Config& config, Comm& comm) {
  if (comm.size() == 1) return;
  require_same_program(comm);
  require_same_text_on_ranks(
      comm,
      fmt::format("--resume {}\n--replay {}\n--dry-run {}\n{}", options.resume, options.replay,
                  options.dry_run, dump_resolved(config)),
      {.path = options.config,
       .field = "configuration",
       .hint = "start all ranks with the same configuration and arguments"});
}

}  // namespace

nlohmann::json run_train(const TrainOptions& options, Session& session) {
  Config config;
  session.comm.run_agreed([&] { config = load_config(options.config, options.overrides); });
  require_one_start(options, config, session.comm);
  if (options.replay > 0) return run_replay(config, options, session);
  nlohmann::json plan;
  session.comm.run_agreed([&] {
    if (session.comm.rank() == 0)
      plan = plan_of(options.config, config, session.comm.size(),
                     options.dry_run ? PlanFor::kReport : PlanFor::kStart);
  });
  if (options.dry_run) {
    session.say("configuration, model and data are fine; nothing was started");
    return plan;
  }
  return TrainingRun(config, options, session).execute();
}

}  // namespace trainer
