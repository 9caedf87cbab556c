#include "trainer/run/training_run.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/json.h"
#include "core/stop.h"
#include "core/text.h"
#include "trainer/config/scalars.h"
#include "trainer/files/json_files.h"
#include "trainer/files/lenient_json.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/rank_threads.h"
#include "trainer/ranks/same_on_ranks.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;

struct Validations {
  ValidationLosses losses;
  json first, here;  // the sets of the lines of step 0 and of `step`; null when there is none
};

// In one pass: the log of a long run has many lines.
Validations read_validations(const fs::path& metrics, int64_t step) {
  Validations found;
  for_each_metrics_line(metrics, [&](const json& entry) {
    if (text_at(entry, {"type"}) != "val") return;
    const auto keep_sets = [&](json& sets, int64_t of) {
      if (sets.is_null() && value_at(entry, {"step"}) == of) sets = value_at(entry, {"sets"});
    };
    keep_sets(found.first, 0);
    keep_sets(found.here, step);
    const double at = number_at(entry, {"step"}), loss = number_at(entry, {"val_loss"});
    constexpr double kMostSteps = 1e15;  // also keeps NaN, which stands for none, from the cast
    if (at >= 0 && at < kMostSteps && std::isfinite(loss))
      found.losses[static_cast<int64_t>(at)] = loss;
  });
  return found;
}

// Every rank updates its own copy of the parameters: they stay equal only if all round alike.
void require_one_isa(Comm& comm) {
  require_same_on_ranks(
      comm, std::string(ag::name_of(ag::active_isa())),
      {.field = "instruction set", .hint = "set MHA2MLA_ISA to the lowest of them on all ranks"});
}

// Each rank reads the samples of its own files.
void require_same_data(Comm& comm, const data::NanosetStages& data, const ValidationSets& sets) {
  std::string text = "training data " + data.fingerprint() + "\n";
  for (const auto& [name, windows] : sets)
    text += fmt::format("validation set {} {}\n", name, windows.fingerprint());
  require_same_text_on_ranks(
      comm, text, {.field = "data", .hint = "give all ranks the same files at the same path"});
}

}  // namespace

TrainingRun::TrainingRun(Config config, const TrainOptions& options, Session& session)
    : config_(std::move(config)), options_(options), session_(session) {
  require_one_isa(session.comm);
  const std::string thread_warning = fix_threads(config_, session.comm);
  const auto start = std::chrono::steady_clock::now();
  open_folder();
  start_watchdog();
  const std::chrono::duration<double> max_time(
      parse_duration(config_.general.max_time).value_or(0));
  requests_ = std::make_unique<StopRequests>(root() ? path_ : fs::path(), max_time, start);
  session.comm.run_agreed([&] { open_log(); });
  if (!thread_warning.empty()) log_->warn(thread_warning);
  for (const std::string& warning : config_warnings(config_)) log_->warn(warning);
}

void TrainingRun::open_folder() {
  const GeneralConfig& g = config_.general;
  path_ = run_path(g);
  session_.comm.run_agreed([&] {
    if (!root()) return;
    core::failpoint("run.start");
    folder_ = std::make_unique<RunFolder>(g.output_dir, g.project, g.run);
    core::failpoint("run.after_lock");
  });
  status_ = std::make_unique<RunStatus>(folder_.get(), path_);
  session_.comm.run_agreed([&] { status_->write("starting"); });
}

void TrainingRun::open_log() {
  try {
    log_ = std::make_unique<Log>(folder_ ? folder_->log() : fs::path(), session_.json, !root(),
                                 session_.prefix);
  } catch (const core::Error& error) {
    record_failure(error);
    throw;
  }
}

void TrainingRun::start_watchdog() {
  Comm& comm = session_.comm;
  watchdog_ = std::make_unique<Watchdog>(
      WatchdogOptions{.folder = path_,
                      .rank = comm.rank(),
                      .ranks = comm.size(),
                      .host = comm.host(),
                      .abort = [this](const std::string& line) {
                        std::fprintf(stderr, "%s\n", line.c_str());
                        status_->write_end(core::Error(ExitCode::kHang, line), "");
                        session_.comm.abort(ExitCode::kHang);
                      }});
}

fs::path TrainingRun::choose_checkpoint() {
  std::string chosen;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    const fs::path directory = folder_->checkpoints();
    remove_leftovers(path_);
    remove_leftovers(directory);
    if (options_.resume == "none") {
      if (!find_checkpoints(directory).empty())
        core::fail(ExitCode::kRunLocked,
                   {.path = path_,
                    .field = "--resume none",
                    .expected = "a run without checkpoints",
                    .found = "some",
                    .hint = "give another general.run, or leave --resume at auto"});
      return;
    }
    std::optional<Manifest> manifest;
    if (options_.resume == "auto") {
      const auto valid = newest_valid(directory, Invalid::quarantine);
      if (!valid) return;
      for (const std::string& warning : valid->warnings) log_->warn(warning);
      chosen = valid->path;
      manifest = valid->manifest;
    } else {
      manifest = verify_checkpoint(options_.resume, /*full=*/true);
      chosen = fs::absolute(options_.resume);
    }
    check_resumable(*manifest);
  });
  return session_.comm.broadcast(chosen);
}

void TrainingRun::check_resumable(const Manifest& manifest) {
  const Config saved = parse_config(manifest.config, "config.resolved.yaml");
  const std::vector<std::string> changes = incompatible_changes(saved, config_);
  if (!changes.empty()) {
    std::string list;
    for (const std::string& change : changes) list += (list.empty() ? "" : ", ") + change;
    core::fail(ExitCode::kBadConfig, {.path = options_.config,
                                      .field = "resume",
                                      .expected = "the settings of the checkpoint",
                                      .found = list,
                                      .hint = "restore them, or give another general.run"});
  }
  for (const std::string& change : reported_changes(saved, config_))
    log_->warn("changed since the checkpoint: " + change);
  const json isa = manifest.provenance.value("isa", json());
  if (isa.is_string() && isa != std::string(ag::name_of(ag::active_isa())))
    log_->warn(fmt::format("changed since the checkpoint: instruction set: {} -> {}",
                           isa.get<std::string>(), ag::name_of(ag::active_isa())));
  same_validation_ = saved.validation == config_.validation;
}

void TrainingRun::banner(const PreparedModel& prepared) const {
  const model::ModelSpec& spec = prepared.model.spec;
  const TokensConfig& t = config_.tokens;
  log_->info(fmt::format("run {}", path_.string()));
  log_->info(fmt::format("model {} parameters, {} layers, {} ({}), trainable {}",
                         core::format_count(static_cast<double>(spec.parameter_count())),
                         spec.config.num_hidden_layers, spec.is_converted() ? "MLA" : "unconverted",
                         config_.model.dtype, config_.model.trainable));
  log_->info(fmt::format("KV cache {} -> {} bytes per token", 2 * prepared.source_cache_elements,
                         2 * spec.cache_elements_per_token()));
  log_->info(fmt::format(
      "batch {} sequences of {} tokens = {} micro-batches of {}; {} tokens per step, {} in all",
      t.global_batch_size, t.sequence_length, config_.micro_batches(), t.micro_batch_size,
      t.global_batch_size * t.sequence_length,
      core::format_count(
          static_cast<double>(t.global_batch_size * t.sequence_length * t.train_steps))));
  for (size_t i = 0; i < data_->size(); ++i)
    log_->info(fmt::format("data stage {}: {:.3f} epochs of {} samples", data_->name_of(i),
                           data_->nanoset(i).epochs(), data_->nanoset(i).samples_per_epoch()));
  log_->info(fmt::format("{}, {} each; {}", core::plural(session_.comm.size(), "rank"),
                         core::plural(config_.parallelism.threads_per_rank.count, "thread"),
                         ag::describe_backend()));
}

json TrainingRun::execute() {
  try {
    return run();
  } catch (const AgreedError& error) {
    if (root()) record_failure(error);
    await_save_in_flight();
    throw;
  } catch (...) {
    // This rank ends all of them, and only it can say why.
    record_failure(to_error(std::current_exception()));
    await_save_in_flight();
    throw;
  }
}

// A save that hangs on a dead disk must not keep the run from ending: here its time is limited,
// which it is not once the watchdog is gone.
void TrainingRun::await_save_in_flight() {
  if (saver_ == nullptr) return;
  const auto waiting = phase("checkpoint in flight", config_.watchdog.checkpoint_seconds);
  saver_->await_save_in_flight();
}

void TrainingRun::record_failure(const core::Error& error) const {
  status_->write_end(error, core::describe_stop(asked_ | core::stop_bits()));
}

Watchdog::Phase TrainingRun::phase(const std::string& name, int64_t limit_seconds) {
  return watchdog_->enter(name, std::chrono::seconds(limit_seconds));
}

json TrainingRun::run() {
  set_up();
  if (!earlier_result_.is_null() && same_validation_) return finish_again();
  loop();
  return finish();
}

void TrainingRun::set_up() {
  const auto setup = phase("setup", config_.watchdog.setup_seconds);
  const fs::path checkpoint = choose_checkpoint();
  read_earlier_result(checkpoint);
  if (!earlier_result_.is_null() && same_validation_) return;
  prepared_ =
      prepare_model(config_, path_, !checkpoint.empty(), options_.shared, session_.comm, *log_);
  const int64_t vocab = prepared_.model.spec.config.vocab_size;
  session_.comm.run_agreed([&] {
    // The files may be moved or replaced while the run lasts; its checkpoints go along with these.
    for (Companion& companion : prepared_.companions) companion = companion.in_memory();
    data_ = std::make_unique<data::NanosetStages>(open_training_data(config_, vocab));
    sets_ = open_validation_sets(config_, vocab);
  });
  require_same_data(session_.comm, *data_, sets_);
  banner(prepared_);
  trainer_ = std::make_unique<Trainer>(config_, session_.comm, prepared_.model, *data_);
  prepared_.model.weights.clear();  // the trainer has its own masters now
  ag::Pool::release_cached();       // and no tensor of the training has the sizes of these
  load(checkpoint);
  make_saver(checkpoint);
  step_log_ =
      std::make_unique<StepLog>(config_.tokens.train_steps,
                                config_.tokens.global_batch_size * config_.tokens.sequence_length);
  continue_metrics(checkpoint);
  session_.comm.run_agreed([&] {
    if (root()) step_log_->go_on_from(time_spent(folder_->metrics()));
  });
  core::failpoint("run.after_load");
}

// Only a run that may go on from here leaves its configuration in the folder.
void TrainingRun::read_earlier_result(const fs::path& checkpoint) {
  json earlier;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    folder_->write_config(core::read_text(options_.config, uint64_t{1} << 20),
                          dump_resolved(config_));
    if (checkpoint.empty()) return;
    const int64_t step = read_manifest(checkpoint).step;
    if (step >= config_.tokens.train_steps) earlier = read_result(path_, step);
  });
  earlier_result_ = json::parse(session_.comm.broadcast(earlier.dump()));
  same_validation_ = session_.comm.max(same_validation_ ? 0 : 1) == 0;
}

void TrainingRun::load(const fs::path& checkpoint) {
  if (checkpoint.empty()) return;
  std::string hash;
  session_.comm.run_agreed([&] { hash = manifest_hash(checkpoint); });
  require_same_on_ranks(session_.comm, hash,
                        {.path = checkpoint,
                         .field = "hash of the manifest",
                         .hint = "give all ranks the same run folder on a shared file system"});
  session_.comm.run_agreed([&] { load_checkpoint(checkpoint, trainer_->registry()); });
  trainer_->refresh_after_load();
  log_->info(fmt::format("resumed from {}", checkpoint.string()));
}

void TrainingRun::make_saver(const fs::path& checkpoint) {
  const CheckpointsConfig& c = config_.checkpoints;
  saver_ = std::make_unique<RunSaver>(
      session_.comm, *log_, trainer_->registry(),
      RunSaverOptions{.directory = path_ / "checkpoints",
                      .retention = {c.keep_last, c.keep_every, c.keep_best, c.checkpoint_interval},
                      .max_failed_saves = c.max_failed_saves,
                      .before_writing =
                          [this] {
                            folder_->require_in_place();
                            sync_metrics();
                          },
                      .acknowledged =
                          [this](const SaveOutcome& outcome) {
                            status_->set_checkpoint(outcome.saved->path);
                            write_status("training");
                            append_metrics({{"type", "ckpt"},
                                            {"step", trainer_->step_number()},
                                            {"checkpoint_step", outcome.step},
                                            {"manifest", outcome.saved->manifest_hash},
                                            {"wall_s", step_log_->wall_seconds()},
                                            {"seconds", outcome.seconds}});
                          }});
  saver_->resume_from(trainer_->step_number(), checkpoint);
  status_->set_checkpoint(checkpoint);
}

// Lines and checkpoints of later steps step aside, and a validation of this very step stands.
void TrainingRun::continue_metrics(const fs::path& checkpoint) {
  const int64_t step = trainer_->step_number();
  json validation;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    for (const std::string& line : set_aside_newer(folder_->checkpoints(), step)) log_->warn(line);
    const int64_t resumed = checkpoint.empty() ? -1 : step;
    metrics_ = std::make_unique<MetricsWriter>(folder_->metrics(), resumed);
    continue_copies(resumed);
    Validations found = read_validations(folder_->metrics(), step);
    first_validation_ = std::move(found.first);
    validation_losses_ = std::move(found.losses);
    if (same_validation_) validation = std::move(found.here);
    write_status("training");
  });
  last_validation_ = json::parse(session_.comm.broadcast(validation.dump()));
  validated_step_ = last_validation_.is_null() ? -1 : step;
}

}  // namespace trainer
