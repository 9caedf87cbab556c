#include "trainer/training_run.h"

#include <fmt/format.h>

#include <fstream>

#include "autograd/kernels/kernels.h"
#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "trainer/affinity.h"
#include "trainer/comm.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;

// The sets of the validation line of `step`; null when there is none.
json read_validation(const fs::path& metrics, int64_t step) {
  std::ifstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.contains("sets") && entry.value("type", json()) == "val" &&
        entry.value("step", json()) == step)
      return entry["sets"];
  }
  return nullptr;
}

// Every rank updates its own copy of the parameters: they stay equal only if all round alike.
void require_one_isa(Comm& comm) {
  const std::string isa(ag::name_of(ag::active_isa()));
  const std::string first = comm.broadcast(isa);
  comm.run_agreed([&] {
    if (isa != first)
      core::fail(ExitCode::kBadConfig,
                 {.field = "instruction set",
                  .expected = first + ", that of rank 0",
                  .found = isa,
                  .hint = "set MHA2MLA_ISA to the lowest of them on all ranks"});
  });
}

// result.json of a run that ended at `step`; null when there is none.
json read_result(const fs::path& path, int64_t step) {
  if (!fs::exists(path)) return nullptr;
  json result = json::parse(core::read_text(path), nullptr, /*allow_exceptions=*/false);
  const bool of_step = result.is_object() && result.value("steps", json()) == step;
  return of_step ? result : json();
}

}  // namespace

TrainingRun::TrainingRun(Config config, const TrainOptions& options, Session& session)
    : config_(std::move(config)), options_(options), session_(session) {
  auto& threads = config_.parallelism.threads_per_rank.count;
  const std::optional<int> requested =
      threads > 0 ? std::optional(static_cast<int>(threads)) : std::nullopt;
  const ThreadPlan plan = plan_threads(read_affinity(), session.comm.local_size(), requested);
  require_one_isa(session.comm);
  // Nodes may grant different numbers of cores, but the bits of a run know one number of threads.
  threads = -session.comm.max(-plan.threads);
  ag::set_threads(static_cast<int>(threads));
  open_folder();
  log_ = std::make_unique<Log>(folder_ ? folder_->log() : fs::path(), session.json, !root());
  if (!plan.warning.empty()) log_->warn(plan.warning);
  for (const std::string& warning : config_warnings(config_)) log_->warn(warning);
}

void TrainingRun::open_folder() {
  const GeneralConfig& g = config_.general;
  path_ = fs::path(g.output_dir) / g.project / g.run;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    folder_ = std::make_unique<RunFolder>(g.output_dir, g.project, g.run);
    folder_->write_status({{"state", "starting"}});
  });
}

fs::path TrainingRun::choose_checkpoint() {
  std::string chosen;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    const fs::path directory = folder_->checkpoints();
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
    parent_ = manifest_hash(chosen);
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
  log_->info(fmt::format("{} ranks, {} threads each; {}", session_.comm.size(),
                         config_.parallelism.threads_per_rank.count, ag::describe_backend()));
}

json TrainingRun::execute() {
  try {
    return run();
  } catch (...) {
    record_failure(to_error(std::current_exception()));
    throw;
  }
}

void TrainingRun::record_failure(const core::Error& error) const {
  if (!root()) return;
  json status = {{"state", "failed"},
                 {"exit_code", static_cast<int>(error.code())},
                 {"message", error.what()}};
  if (trainer_) status["step"] = trainer_->step_number();
  try {
    folder_->write_status(status);
  } catch (const std::exception&) {
    // The disk may be what failed; the error that matters is on its way to stderr.
  }
}

json TrainingRun::run() {
  const fs::path checkpoint = choose_checkpoint();
  read_earlier_result(checkpoint);
  if (!earlier_result_.is_null() && same_validation_) return finish_again();
  prepared_ = prepare_model(config_, path_, !checkpoint.empty(), session_.comm, *log_);
  const int64_t vocab = prepared_.model.spec.config.vocab_size;
  session_.comm.run_agreed([&] {
    data_ = std::make_unique<data::NanosetStages>(open_training_data(config_, vocab));
    sets_ = open_validation_sets(config_, vocab);
  });
  banner(prepared_);
  trainer_ = std::make_unique<Trainer>(config_, session_.comm, prepared_.model, *data_);
  prepared_.model.weights.clear();  // the trainer has its own masters now
  load(checkpoint);
  step_log_ =
      std::make_unique<StepLog>(config_.tokens.train_steps,
                                config_.tokens.global_batch_size * config_.tokens.sequence_length);
  continue_metrics(checkpoint);
  loop();
  return finish();
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
    if (step >= config_.tokens.train_steps) earlier = read_result(path_ / "result.json", step);
  });
  earlier_result_ = json::parse(session_.comm.broadcast(earlier.dump()));
  same_validation_ = session_.comm.max(same_validation_ ? 0 : 1) == 0;
}

void TrainingRun::load(const fs::path& checkpoint) {
  if (checkpoint.empty()) return;
  session_.comm.run_agreed([&] { load_checkpoint(checkpoint, trainer_->registry()); });
  trainer_->refresh_after_load();
  saved_step_ = trainer_->step_number();
  log_->info(fmt::format("resumed from {}", checkpoint.string()));
}

// Lines and checkpoints of later steps step aside, and a validation of this very step stands.
void TrainingRun::continue_metrics(const fs::path& checkpoint) {
  const int64_t step = trainer_->step_number();
  json validation;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    for (const std::string& line : set_aside_newer(folder_->checkpoints(), step)) log_->warn(line);
    metrics_ = std::make_unique<MetricsWriter>(folder_->metrics(), checkpoint.empty() ? -1 : step);
    first_validation_ = read_validation(folder_->metrics(), 0);
    if (same_validation_) validation = read_validation(folder_->metrics(), step);
    folder_->write_status({{"state", "training"}, {"step", step}});
  });
  last_validation_ = json::parse(session_.comm.broadcast(validation.dump()));
  if (!last_validation_.is_null()) validated_step_ = step;
}

void TrainingRun::loop() {
  if (trainer_->step_number() == 0) validate();
  while (!trainer_->finished()) {
    step_log_->begin_step();
    const StepReport report = trainer_->step();
    step_log_->end_step();
    after_step(report);
  }
}

void TrainingRun::after_step(const StepReport& report) {
  const int64_t n = report.step;
  const auto due = [&](int64_t interval) { return interval > 0 && n % interval == 0; };
  const bool last = trainer_->finished();
  if (due(config_.tokens.val_check_interval) && !last) validate();
  const int64_t interval = config_.logging.iteration_step_info_interval;
  if (n == 1 || due(interval) || last) {
    log_->info(step_log_->line(report));
    const size_t stage = data_->stage_of(n);
    const double epochs =
        static_cast<double>((n - data_->start_of(stage) + 1) * config_.tokens.global_batch_size) /
        static_cast<double>(data_->nanoset(stage).samples_per_epoch());
    if (metrics_) metrics_->append(step_log_->metrics(report, trainer_->tokens_seen(), epochs));
    step_log_->reset_interval();
  }
  if (due(config_.checkpoints.checkpoint_interval) || last) save();
}

void TrainingRun::validate() {
  if (sets_.empty() || validated_step_ == trainer_->step_number()) return;
  validated_step_ = trainer_->step_number();
  const json results = to_json(trainer_->validate(sets_));
  last_validation_ = results;
  if (validated_step_ == 0) first_validation_ = results;
  step_log_->set_validation(results.at("mean_nll"));
  std::string line = fmt::format("validation at step {}:", validated_step_);
  for (const auto& [name, windows] : sets_)
    line += fmt::format(" {} ppl {:.3f}", name, results.at(name).at("ppl").get<double>());
  log_->info(line);
  if (!metrics_) return;
  json entry = {{"type", "val"},
                {"step", validated_step_},
                {"tokens", trainer_->tokens_seen()},
                {"val_loss", results.at("mean_nll")},
                {"wall_s", step_log_->wall_seconds()},
                {"sets", results}};
  for (const auto& [name, windows] : sets_) entry["val_loss/" + name] = results.at(name).at("nll");
  metrics_->append(entry);
}

void TrainingRun::save() {
  if (saved_step_ == trainer_->step_number()) return;
  session_.comm.run_agreed([&] {
    if (!root()) return;
    json provenance = basic_provenance();
    provenance["ranks"] = session_.comm.size();
    provenance["threads_per_rank"] = config_.parallelism.threads_per_rank.count;
    provenance["isa"] = std::string(ag::name_of(ag::active_isa()));
    provenance["parent"] = parent_;
    const SavedCheckpoint saved = save_checkpoint(folder_->checkpoints(), trainer_->registry(),
                                                  {.step = trainer_->step_number(),
                                                   .config = dump_resolved(config_),
                                                   .provenance = provenance,
                                                   .companions = prepared_.companions});
    parent_ = saved.manifest_hash;
    log_->info(fmt::format("ckpt committed step={} manifest={}", trainer_->step_number(),
                           saved.manifest_hash));
    metrics_->append(
        {{"type", "ckpt"}, {"step", trainer_->step_number()}, {"manifest", saved.manifest_hash}});
    apply_retention(folder_->checkpoints(), config_.checkpoints.keep_last,
                    config_.checkpoints.keep_every);
  });
  saved_step_ = trainer_->step_number();
}

json TrainingRun::finish() {
  validate();
  const json outcome = result();
  session_.comm.run_agreed([&] {
    if (!root()) return;
    core::write_file_atomically(path_ / "result.json", outcome.dump(2) + "\n");
  });
  say_done(outcome);
  return outcome;
}

json TrainingRun::finish_again() {
  log_->info("finished already; raise tokens.train_steps to train on");
  say_done(earlier_result_);
  return earlier_result_;
}

void TrainingRun::say_done(const json& outcome) {
  session_.comm.run_agreed([&] {
    if (!root()) return;
    folder_->write_status({{"state", "done"}, {"step", outcome.at("steps")}, {"exit_code", 0}});
  });
  const json speed = outcome.value("tokens_per_second", json());
  log_->info(fmt::format("done: {} steps{}; model {}", outcome.at("steps").dump(),
                         speed.is_number()
                             ? ", " + core::format_count(speed.get<double>()) + " tokens/s"
                             : std::string(),
                         path_.string()));
  log_->info("next: mha2mla generate " + path_.string() + " --prompt \"The\"");
}

json TrainingRun::result() const {
  const model::ModelSpec& spec = trainer_->model().spec();
  json validation = {{prepared_.converted ? "converted" : "start", first_validation_},
                     {"recovered", last_validation_}};
  if (prepared_.converted) validation["source"] = prepared_.source_validation;
  json outcome = {{"run", path_.string()},
                  {"steps", trainer_->step_number()},
                  {"tokens", trainer_->tokens_seen()},
                  {"seconds", step_log_->wall_seconds()},
                  {"ranks", session_.comm.size()},
                  {"threads_per_rank", config_.parallelism.threads_per_rank.count},
                  {"parameters", spec.parameter_count()},
                  {"validation", validation},
                  {"protocol", sets_.empty() ? "" : sets_.front().second.protocol()},
                  {"cache_bytes_per_token",
                   {{"before", 2 * prepared_.source_cache_elements},
                    {"after", 2 * spec.cache_elements_per_token()}}},
                  {"parity", prepared_.parity}};
  const double speed = step_log_->tokens_per_second();
  if (speed > 0) {
    outcome["tokens_per_second"] = speed;
  } else {
    // A process that found the run finished has measured nothing.
    for (const char* key : {"tokens_per_second", "seconds", "ranks", "threads_per_rank"})
      if (earlier_result_.contains(key)) outcome[key] = earlier_result_[key];
  }
  return outcome;
}

}  // namespace trainer
