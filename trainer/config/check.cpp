#include "trainer/config/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "trainer/config/scalars.h"

namespace trainer {
namespace {

bool is_folder_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string::npos && std::none_of(name.begin(), name.end(), [](char c) {
           return static_cast<unsigned char>(c) < 0x20;
         });
}

bool is_set_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

std::string quote(const std::string& text) { return "\"" + text + "\""; }

void check_names(const Config& c, ProblemSink& problems) {
  const auto check = [&](const char* key, const std::string& name) {
    if (!is_folder_name(name))
      problems.add(key, "a folder name", quote(name), "no '/', not '.' or '..', not empty");
  };
  check("general.project", c.general.project);
  check("general.run", c.general.run);
  if (!c.general.max_time.empty() && !parse_duration(c.general.max_time))
    problems.add("general.max_time", "a time above 0 with its unit, such as 45s, 90m, 11.5h or 2d",
                 quote(c.general.max_time), "s, m, h and d are seconds, minutes, hours and days");
  if (c.model.init_from.empty()) {
    problems.add("model.init_from", "the path of a model", "nothing", "it has no default");
  } else if (is_inside(c.general.output_dir, c.model.init_from)) {
    problems.add("general.output_dir", "a folder outside the model", quote(c.general.output_dir),
                 "runs are written there; model.init_from is only read");
  }
}

void check_mla(const MlaConfig& mla, ProblemSink& problems) {
  const std::string& strategy = mla.rope.strategy;
  if (strategy != "full" && strategy != "none" && mla.rope.rope_pairs_per_head == 0)
    problems.add("mla.rope.rope_pairs_per_head", "integer > 0", "0",
                 fmt::format("strategy {} keeps that many pairs per head", strategy));
  if (mla.latent.method != "none" && mla.latent.latent_dims_per_kv_head == 0)
    problems.add("mla.latent.latent_dims_per_kv_head", "integer > 0", "0",
                 fmt::format("method {} makes latents of that width", mla.latent.method));
  if (mla.latent.method == "split" && strategy == "full")
    problems.add("mla.latent.method", "joint or none with mla.rope.strategy full", "split",
                 "all of the key is rotary: there is no other part to factor");
}

void check_dataset(const DatasetConfig& d, const std::string& prefix, ProblemSink& problems) {
  const size_t n = d.dataset_folder.size();
  if (n == 0) {
    problems.add(prefix + "dataset_folder", "at least one shard", "none", "");
    return;
  }
  if (d.dataset_weights.size() != n) {
    problems.add(prefix + "dataset_weights", fmt::format("{} weights, one per shard", n),
                 std::to_string(d.dataset_weights.size()), "");
    return;
  }
  double sum = 0;
  for (const double w : d.dataset_weights) sum += w;
  if (!(sum > 0)) problems.add(prefix + "dataset_weights", "a sum > 0", format_number(sum), "");
}

void check_stages(const Config& c, ProblemSink& problems) {
  if (c.data_stages.empty())
    problems.add("data_stages", "at least one stage", "none", "it has no default");
  std::set<std::string> names;
  for (size_t i = 0; i < c.data_stages.size(); ++i) {
    const DataStageConfig& stage = c.data_stages[i];
    const std::string prefix = fmt::format("data_stages.{}.", i);
    const int64_t start = stage.start_training_step;
    if (i == 0 && start != 1) {
      problems.add(prefix + "start_training_step", "1 for the first stage", std::to_string(start),
                   "");
    } else if (i > 0 && start <= c.data_stages[i - 1].start_training_step) {
      problems.add(prefix + "start_training_step",
                   fmt::format("a step after {}, the start of the stage before",
                               c.data_stages[i - 1].start_training_step),
                   std::to_string(start), "");
    }
    if (stage.name.empty() || !names.insert(stage.name).second)
      problems.add(prefix + "name", "a name of its own", quote(stage.name), "");
    check_dataset(stage.data.dataset, prefix + "data.dataset.", problems);
  }
}

void check_validation(const ValidationConfig& v, ProblemSink& problems) {
  for (const auto& [name, path] : v.sets)
    if (!is_set_name(name))
      problems.add("validation.sets." + name, "a name of letters, digits, '_', '-' and '.'",
                   quote(name), "it becomes the metric val_loss/<name>");
    else if (name == "mean_nll")
      problems.add("validation.sets." + name, "another name", quote(name),
                   "the mean over the sets has it in result.json");
}

void check_batches(const Config& c, ProblemSink& problems) {
  const int64_t micro = c.tokens.micro_batch_size, global = c.tokens.global_batch_size;
  for (const char* key : {"tokens.micro_batch_size", "tokens.global_batch_size"})
    if (problems.was_refused(key)) return;
  if (global % micro != 0) {
    const int64_t below = global / micro * micro;
    problems.add("tokens.global_batch_size",
                 fmt::format("a multiple of micro_batch_size {}", micro), std::to_string(global),
                 below == 0 ? fmt::format("the nearest is {}", micro)
                            : fmt::format("the nearest are {} and {}", below, below + micro));
    return;
  }
  const int64_t shards = c.parallelism.reduction_shards;
  const auto largest = static_cast<int64_t>(
      std::bit_floor(static_cast<uint64_t>(std::min(c.micro_batches(), shards))));
  if (!std::has_single_bit(static_cast<uint64_t>(shards)))
    problems.add("parallelism.reduction_shards", "a power of two", std::to_string(shards),
                 fmt::format("use {}", largest));
  else if (shards > c.micro_batches())
    problems.add("parallelism.reduction_shards",
                 fmt::format("at most {}, the micro-batches of an update", c.micro_batches()),
                 std::to_string(shards),
                 fmt::format("use {} or raise tokens.global_batch_size", largest));
}

// All tokens of all runs of a sweep are counted in 64 bits.
void check_tokens(const Config& c, ProblemSink& problems) {
  constexpr int64_t kMostTokens = int64_t{1} << 48;
  const int64_t per_step = c.tokens.global_batch_size * c.tokens.sequence_length;
  if (per_step > 0 && c.tokens.train_steps > kMostTokens / per_step)
    problems.add("tokens.train_steps",
                 fmt::format("at most {} steps of {} x {} tokens", kMostTokens / per_step,
                             c.tokens.global_batch_size, c.tokens.sequence_length),
                 std::to_string(c.tokens.train_steps), "");
}

void check_schedule(const Config& c, ProblemSink& problems) {
  const LearningRateConfig& lr = c.optimizer.learning_rate_scheduler;
  const std::string prefix = "optimizer.learning_rate_scheduler.";
  if (lr.lr_warmup_steps > c.tokens.train_steps && c.tokens.train_steps > 0)
    problems.add(prefix + "lr_warmup_steps",
                 fmt::format("at most tokens.train_steps = {}", c.tokens.train_steps),
                 std::to_string(lr.lr_warmup_steps), "");
  if (lr.lr_decay_steps > 0 && lr.lr_warmup_steps > lr.lr_decay_starting_step)
    problems.add(prefix + "lr_decay_starting_step",
                 fmt::format("at least lr_warmup_steps = {}", lr.lr_warmup_steps),
                 std::to_string(lr.lr_decay_starting_step),
                 "the decay starts when the warm-up is over");
  if (lr.min_decay_lr > lr.learning_rate)
    problems.add(prefix + "min_decay_lr",
                 fmt::format("at most learning_rate = {}", format_number(lr.learning_rate)),
                 format_number(lr.min_decay_lr), "");
}

void warn_of_unused_guards(const CheckpointsConfig& c, std::vector<std::string>& warnings) {
  const CheckpointsConfig defaults;
  const auto asks_for = [&c](const char* action) {
    return c.on_nan == action || c.on_spike == action;
  };
  if (c.max_skipped_steps != defaults.max_skipped_steps && !asks_for("skip"))
    warnings.push_back(
        "checkpoints.max_skipped_steps is not used: neither on_nan nor on_spike is skip");
  if (c.rollback_skip_steps != defaults.rollback_skip_steps && !asks_for("rollback"))
    warnings.push_back(
        "checkpoints.rollback_skip_steps is not used: neither on_nan nor on_spike is rollback");
  if (c.spike_z_score != defaults.spike_z_score && c.on_spike == "off")
    warnings.push_back("checkpoints.spike_z_score is not used: on_spike is off");
}

}  // namespace

void resolve_dependent_defaults(Config& c, const std::set<std::string>& given_keys) {
  LearningRateConfig& lr = c.optimizer.learning_rate_scheduler;
  if (!given_keys.contains("optimizer.learning_rate_scheduler.lr_decay_starting_step"))
    // Without a decay the key means nothing, and must not tie a resume to one number of steps.
    lr.lr_decay_starting_step =
        lr.lr_decay_steps > 0 ? std::max<int64_t>(0, c.tokens.train_steps - lr.lr_decay_steps) : 0;
  if (!given_keys.contains("parallelism.reduction_shards") && c.tokens.micro_batch_size > 0 &&
      c.micro_batches() > 0) {
    const auto m = static_cast<uint64_t>(c.micro_batches());
    c.parallelism.reduction_shards =
        std::min(c.parallelism.reduction_shards, static_cast<int64_t>(std::bit_floor(m)));
  }
  for (size_t i = 0; i < c.data_stages.size(); ++i) {
    DataConfig& data = c.data_stages[i].data;
    if (!given_keys.contains(fmt::format("data_stages.{}.data.seed", i)))
      data.seed = c.general.seed;
    DatasetConfig& d = data.dataset;
    if (d.dataset_folder.size() == 1 && d.dataset_weights.empty()) d.dataset_weights = {1.0};
  }
}

void check_config(const Config& c, ProblemSink& problems) {
  check_names(c, problems);
  if (c.mla) check_mla(*c.mla, problems);
  check_stages(c, problems);
  check_validation(c.validation, problems);
  if (c.tokens.train_steps == 0)
    problems.add("tokens.train_steps", "integer > 0", "nothing", "it has no default");
  check_batches(c, problems);
  check_tokens(c, problems);
  check_schedule(c, problems);
}

std::vector<std::string> config_warnings(const Config& c) {
  std::vector<std::string> warnings;
  const LearningRateConfig& lr = c.optimizer.learning_rate_scheduler;
  const int64_t steps = c.tokens.train_steps;
  if (lr.lr_decay_steps > 0 && lr.lr_decay_starting_step + lr.lr_decay_steps > steps)
    warnings.push_back(fmt::format("the learning rate decay ends at step {}, after the last of {}",
                                   lr.lr_decay_starting_step + lr.lr_decay_steps, steps));
  for (const DataStageConfig& stage : c.data_stages)
    if (stage.start_training_step > steps)
      warnings.push_back(fmt::format("data stage {} starts at step {}, after the last of {}",
                                     stage.name, stage.start_training_step, steps));
  warn_of_unused_guards(c.checkpoints, warnings);
  if (!c.mla) return warnings;
  const RopeConfig& rope = c.mla->rope;
  if ((rope.strategy == "full" || rope.strategy == "none") && rope.rope_pairs_per_head > 0)
    warnings.push_back(
        fmt::format("mla.rope.rope_pairs_per_head is not used by strategy {}", rope.strategy));
  if (rope.strategy != "uniform" && rope.uniform_start > 0)
    warnings.push_back(
        fmt::format("mla.rope.uniform_start is not used by strategy {}", rope.strategy));
  if (c.mla->latent.method == "none" && c.mla->latent.latent_dims_per_kv_head > 0)
    warnings.push_back("mla.latent.latent_dims_per_kv_head is not used by method none");
  return warnings;
}

}  // namespace trainer
