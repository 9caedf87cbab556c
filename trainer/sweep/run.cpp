#include "trainer/sweep/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>

#include "autograd/core/pool.h"
#include "core/error.h"
#include "core/file.h"
#include "core/seconds.h"
#include "core/stop.h"
#include "core/text.h"
#include "trainer/config/scalars.h"
#include "trainer/files/manifest.h"
#include "trainer/ranks/comm.h"
#include "trainer/run/plan.h"
#include "trainer/run/training_run.h"
#include "trainer/sweep/queue.h"
#include "trainer/sweep/table.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A configuration of the trial's own, with which `mha2mla train` runs it alone.
fs::path trial_config(const SweepPlan& plan, const Trial& trial) {
  return plan.folder / "configs" / (trial.id + ".yaml");
}

void write_configs(const SweepPlan& plan) {
  core::create_directories(plan.folder / "configs");
  core::create_directories(plan.folder / "queue");
  for (const Trial& trial : plan.trials) {
    const fs::path path = trial_config(plan, trial);
    const std::string text = dump_resolved(trial.config);
    if (!fs::exists(path) || core::read_text(path) != text) core::write_file_atomically(path, text);
  }
}

// One for this start on all ranks, and for no other.
std::string session_name(Comm& comm) {
  const json p = basic_provenance();
  return comm.broadcast(fmt::format("{} {} {}", p.at("host").get<std::string>(), ::getpid(),
                                    p.at("time").get<std::string>()));
}

void set_deadline(const std::string& max_time) {
  const double seconds = parse_duration(max_time).value_or(0);
  if (seconds > 0)
    core::set_stop_deadline(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                               std::chrono::duration<double>(seconds)));
}

// The trials that one group of ranks takes.
class Group {
 public:
  Group(const SweepPlan& plan, SweepQueue& queue, size_t trials, Comm& ranks, bool json_only)
      : plan_(plan), queue_(queue), trials_(trials), ranks_(ranks), json_only_(json_only) {}

  void run() {
    while (!stopped_ && take()) {
      const auto start = Clock::now();
      const std::optional<core::Error> failure = train();
      finish(failure ? &*failure : nullptr, core::seconds_since(start));
      stopped_ = failure && failure->code() == ExitCode::kPreempted;
    }
  }

 private:
  bool root() const { return ranks_.rank() == 0; }
  const Trial& trial() const { return plan_.trials[trial_]; }
  std::string name() const {
    return fmt::format("trial {} of {}: {}", trial_ + 1, trials_, trial().id);
  }

  // Collective; a stop before the first step of a trial is nobody's failure.
  bool take() {
    std::string taken;
    try {
      ranks_.run_agreed([&] {
        if (!root()) return core::throw_if_stopping();
        claim_ = queue_.take();
        if (claim_) taken = std::to_string(claim_->trial);
      });
    } catch (const AgreedError& e) {
      if (e.code() != ExitCode::kPreempted) throw;
      if (claim_) queue_.finish(std::move(*claim_), &e);
      return false;
    }
    taken = ranks_.broadcast(taken);
    if (taken.empty()) return false;
    trial_ = std::stoul(taken);
    say(name());
    return true;
  }

  // Returns how the trial failed. What is not agreed leaves ranks behind that wait: it ends all.
  std::optional<core::Error> train() {
    const Trial& t = trial();
    const TrainOptions options{
        .config = trial_config(plan_, t), .overrides = {}, .shared = plan_.folder / "shared"};
    Session session{
        .comm = ranks_, .json = json_only_, .prefix = fmt::format("[{}/{}] ", trial_ + 1, trials_)};
    std::optional<core::Error> failure;
    try {
      ranks_.run_agreed([&] {
        if (root()) plan_of(options.config, t.config, ranks_.size(), PlanFor::kStart);
      });
      TrainingRun(t.config, options, session).execute();
    } catch (const AgreedError& e) {
      failure = e;
    } catch (...) {
      failure = to_error(std::current_exception());
      if (ranks_.size() > 1) ranks_.report(std::make_exception_ptr(*failure));
    }
    ag::Pool::release_cached();
    return failure;
  }

  void finish(const core::Error* failure, double seconds) {
    ranks_.run_agreed([&] {
      if (!root()) return;
      queue_.finish(std::move(*claim_), failure);
      claim_.reset();
      // Also when a stop was asked for: this is the table that the next start finds.
      write_sweep_tables(plan_);
    });
    if (failure == nullptr)
      say(fmt::format("{}: done in {}", name(), core::format_duration(seconds)));
    else if (failure->code() == ExitCode::kPreempted)
      say(fmt::format("{}: stopped", name()));
    else
      say(fmt::format("{}: failed with {}: {}", name(), static_cast<int>(failure->code()),
                      failure->what()));
  }

  void say(const std::string& line) const { Session{.comm = ranks_, .json = json_only_}.say(line); }

  const SweepPlan& plan_;
  SweepQueue& queue_;
  size_t trials_;
  Comm& ranks_;
  bool json_only_;  // stdout belongs to the one JSON object
  bool stopped_ = false;
  size_t trial_ = 0;
  std::optional<SweepQueue::Claim> claim_;  // on rank 0
};

void require_whole_groups(const SweepPlan& plan, const Comm& comm) {
  if (comm.size() % plan.ranks_per_trial != 0)
    core::fail(
        ExitCode::kBadConfig,
        {.path = plan.file,
         .field = "ranks",
         .expected = fmt::format("a multiple of sweep.ranks_per_trial, {}", plan.ranks_per_trial),
         .found = std::to_string(comm.size()),
         .hint = "start more ranks with mpirun -np, or lower ranks_per_trial"});
}

// Of a trial that failed; the queue may have been written by anybody, and 0 is no failure.
ExitCode code_of(const json& row) {
  const json& code = row.at("exit_code");
  return code.is_null() || code == 0 ? ExitCode::kBadData : static_cast<ExitCode>(code.get<int>());
}

// Rank 0: throws what the sweep as a whole comes to.
void judge(const SweepPlan& plan, const std::vector<size_t>& selected, const json& report,
           bool stopped) {
  const json& rows = report.at("trials");
  std::vector<const json*> failed;
  size_t done = 0, held = 0;
  for (const size_t t : selected) {
    const json& row = rows.at(t);
    if (row.at("state") == "done") ++done;
    if (row.at("state") == "running") ++held;
    if (row.at("state") == "failed") failed.push_back(&row);
  }
  const auto fail = [&](ExitCode code, const std::string& found, const std::string& hint) {
    core::fail(code, {.path = plan.folder,
                      .field = "trials",
                      .expected = fmt::format("{} done", selected.size()),
                      .found = fmt::format("{} done{}", done, found),
                      .hint = hint});
  };
  if (stopped)
    throw core::Error(ExitCode::kPreempted,
                      fmt::format("{}: stopped by {}; {} of {} trials are done; started again it "
                                  "goes on from there",
                                  plan.folder.string(), core::describe_stop(core::stop_bits()),
                                  done, selected.size()));
  if (!failed.empty())
    fail(
        code_of(*failed[0]),
        fmt::format(", {} failed, first {}", failed.size(), failed[0]->at("id").get<std::string>()),
        "sweep.json has the message of each; started again, the sweep tries them again");
  if (held > 0)
    fail(ExitCode::kRunLocked, fmt::format(", {} in another job", held),
         "wait for it, and start again if it does not finish them");
}

}  // namespace

json run_trials(const SweepPlan& plan, const std::vector<size_t>& selected, bool fail_fast,
                Session& session) {
  Comm& comm = session.comm;
  comm.run_agreed([&] {
    require_whole_groups(plan, comm);
    if (comm.rank() == 0) write_configs(plan);
  });
  set_deadline(plan.max_time);
  SweepQueue queue(plan, selected, session_name(comm), fail_fast);
  std::unique_ptr<Comm> ranks = comm.split(comm.rank() / static_cast<int>(plan.ranks_per_trial));
  // Nothing may be thrown out of here before all groups are at the barrier.
  std::optional<core::Error> failure;
  try {
    Group(plan, queue, plan.trials.size(), *ranks, session.json).run();
  } catch (const AgreedError& e) {
    failure = e;
  }
  comm.barrier_asleep();
  ranks.reset();
  comm.agree(failure);
  const bool stopped = core::is_stop(static_cast<unsigned>(comm.bit_or(core::stop_bits())));
  std::string text;
  comm.run_agreed([&] {
    if (comm.rank() != 0) return;
    write_sweep_tables(plan);
    const json report = sweep_report(plan);
    session.say(sweep_markdown(report));
    session.say(fmt::format("{}: sweep.json, sweep.csv, sweep.md", plan.folder.string()));
    judge(plan, selected, report, stopped);
    text = report.dump();
  });
  return json::parse(comm.broadcast(text));
}

}  // namespace trainer
