// The sections of the configuration: each key with its default, its range and its help.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/config/conversion.h"

namespace trainer {

using NamedPaths = std::vector<std::pair<std::string, std::string>>;  // in the order of the file

struct ThreadCount {
  int64_t count = 0;  // 0: auto
  bool operator==(const ThreadCount&) const = default;
};

struct GeneralConfig {
  std::string project = "default";
  std::string run = "default";
  int64_t seed = 42;
  std::string output_dir = "runs";
  std::string max_time;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.project,
      Key{.name = "project", .help = "folder below output_dir", .effect = Effect::kFree});
    f(s.run,
      Key{.name = "run", .help = "folder below project, one per run", .effect = Effect::kFree});
    f(s.seed, Key{.name = "seed",
                  .help = "seed of the data stages that name none",
                  .min = 0,
                  .max = 4294967295.0,
                  .effect = Effect::kFree});
    f(s.output_dir,
      Key{.name = "output_dir",
          .help = "where runs go; relative to the directory the program is started in",
          .path = PathBase::kWorkingDirectory,
          .effect = Effect::kFree});
    f(s.max_time,
      Key{.name = "max_time",
          .help = "then save and stop with 75: number and unit, 45s | 90m | 11.5h | 2d; \"\": none",
          .effect = Effect::kFree});
  }
  bool operator==(const GeneralConfig&) const = default;
};

struct ModelConfig {
  std::string init_from;
  std::string dtype = "bfloat16";
  std::string trainable = "all";

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.init_from,
      Key{.name = "init_from",
          .help = "required: Hugging Face folder, .gguf file, native model or checkpoint",
          .path = PathBase::kConfigFile,
          .has_default = false});
    f(s.dtype, Key{.name = "dtype",
                   .help = "of weights and activations: float32 | bfloat16",
                   .choices = {"float32", "bfloat16"}});
    f(s.trainable, Key{.name = "trainable",
                       .help = "all | attention (attention and norms only)",
                       .choices = {"all", "attention"}});
  }
  bool operator==(const ModelConfig&) const = default;
};

struct DatasetConfig {
  std::vector<std::string> dataset_folder;
  std::vector<double> dataset_weights;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.dataset_folder, Key{.name = "dataset_folder",
                            .help = "required: shard (.ds) or list of shards",
                            .path = PathBase::kConfigFile,
                            .has_default = false});
    f(s.dataset_weights, Key{.name = "dataset_weights",
                             .help = "share of each shard in the mixture, normalised to sum 1",
                             .min = 0,
                             .max = 1e9,
                             .has_default = false});
  }
  bool operator==(const DatasetConfig&) const = default;
};

struct DataConfig {
  int64_t seed = 42;
  DatasetConfig dataset;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.seed, Key{.name = "seed",
                  .help = "seed of the shuffle; default: general.seed",
                  .min = 0,
                  .max = 4294967295.0,
                  .has_default = false});
    f(s.dataset, Key{.name = "dataset", .help = "the mixture"});
  }
  bool operator==(const DataConfig&) const = default;
};

struct DataStageConfig {
  std::string name = "main";
  int64_t start_training_step = 1;
  DataConfig data;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.name, Key{.name = "name", .help = "shown in logs", .effect = Effect::kFree});
    f(s.start_training_step, Key{.name = "start_training_step",
                                 .help = "first step of the stage, counted from 1",
                                 .min = 1,
                                 .max = 1e9});
    f(s.data, Key{.name = "data", .help = "what the stage trains on"});
  }
  bool operator==(const DataStageConfig&) const = default;
};

struct ValidationConfig {
  NamedPaths sets;
  int64_t windows_per_set = 50;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.sets, Key{.name = "sets",
                  .help = "name: shard, measured as val_loss/<name>; empty: no validation",
                  .path = PathBase::kConfigFile,
                  .effect = Effect::kReported});
    f(s.windows_per_set, Key{.name = "windows_per_set",
                             .help = "sequences per set and validation",
                             .min = 1,
                             .max = 1e9,
                             .effect = Effect::kReported});
  }
  bool operator==(const ValidationConfig&) const = default;
};

struct TokensConfig {
  int64_t sequence_length = 2048;
  int64_t micro_batch_size = 4;
  int64_t global_batch_size = 64;
  int64_t train_steps = 0;
  int64_t val_check_interval = 500;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.sequence_length,
      Key{.name = "sequence_length", .help = "tokens per sequence", .min = 2, .max = 1048576});
    f(s.micro_batch_size, Key{.name = "micro_batch_size",
                              .help = "sequences per forward and backward pass",
                              .min = 1,
                              .max = 65536});
    f(s.global_batch_size, Key{.name = "global_batch_size",
                               .help = "sequences per update, over all ranks",
                               .min = 1,
                               .max = 16777216});
    f(s.train_steps, Key{.name = "train_steps",
                         .help = "required: updates in all",
                         .min = 1,
                         .max = 1e9,
                         .effect = Effect::kReported,
                         .has_default = false});
    f(s.val_check_interval, Key{.name = "val_check_interval",
                                .help = "steps between validations; 0: only at the end",
                                .min = 0,
                                .max = 1e9,
                                .effect = Effect::kFree});
  }
  bool operator==(const TokensConfig&) const = default;
};

struct OptimizerFactoryConfig {
  std::string name = "adamW";
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.95;
  double adam_eps = 1e-8;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.name, Key{.name = "name", .help = "adamW", .choices = {"adamW"}});
    f(s.adam_beta1, Key{.name = "adam_beta1",
                        .help = "decay of the first moment",
                        .min = 0,
                        .max = 1,
                        .exclude_max = true});
    f(s.adam_beta2, Key{.name = "adam_beta2",
                        .help = "decay of the second moment",
                        .min = 0,
                        .max = 1,
                        .exclude_max = true});
    f(s.adam_eps, Key{.name = "adam_eps",
                      .help = "added to the root of the second moment",
                      .min = 0,
                      .max = 1,
                      .exclude_min = true});
  }
  bool operator==(const OptimizerFactoryConfig&) const = default;
};

struct LearningRateConfig {
  double learning_rate = 1e-4;
  int64_t lr_warmup_steps = 0;
  std::string lr_decay_style = "1-sqrt";
  int64_t lr_decay_starting_step = 0;
  int64_t lr_decay_steps = 0;
  double min_decay_lr = 0;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.learning_rate, Key{.name = "learning_rate",
                           .help = "peak learning rate",
                           .min = 0,
                           .max = 1,
                           .exclude_min = true});
    f(s.lr_warmup_steps, Key{.name = "lr_warmup_steps",
                             .help = "steps of linear warm-up; 0: none",
                             .min = 0,
                             .max = 1e9});
    f(s.lr_decay_style, Key{.name = "lr_decay_style",
                            .help = "1-sqrt | cosine | linear",
                            .choices = {"1-sqrt", "cosine", "linear"}});
    f(s.lr_decay_starting_step, Key{.name = "lr_decay_starting_step",
                                    .help = "default: train_steps - lr_decay_steps",
                                    .min = 0,
                                    .max = 1e9,
                                    .has_default = false});
    f(s.lr_decay_steps,
      Key{.name = "lr_decay_steps", .help = "steps of decay; 0: none", .min = 0, .max = 1e9});
    f(s.min_decay_lr,
      Key{.name = "min_decay_lr", .help = "learning rate after the decay", .min = 0, .max = 1});
  }
  bool operator==(const LearningRateConfig&) const = default;
};

struct OptimizerConfig {
  double weight_decay = 0.01;
  double clip_grad = 1.0;
  int64_t zero_stage = 0;
  OptimizerFactoryConfig optimizer_factory;
  LearningRateConfig learning_rate_scheduler;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.weight_decay,
      Key{.name = "weight_decay", .help = "decoupled, on all parameters", .min = 0, .max = 1});
    f(s.clip_grad, Key{.name = "clip_grad",
                       .help = "largest global gradient norm; 0: no clipping",
                       .min = 0,
                       .max = 1e9});
    f(s.zero_stage, Key{.name = "zero_stage",
                        .help = "0: every rank holds the whole optimizer state; 1: a share of it",
                        .choices = {"0", "1"},
                        .effect = Effect::kFree});
    f(s.optimizer_factory, Key{.name = "optimizer_factory", .help = "the optimizer"});
    f(s.learning_rate_scheduler, Key{.name = "learning_rate_scheduler", .help = "in steps"});
  }
  bool operator==(const OptimizerConfig&) const = default;
};

struct ParallelismConfig {
  ThreadCount threads_per_rank;
  std::string recompute = "none";
  int64_t reduction_shards = 4;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.threads_per_rank, Key{.name = "threads_per_rank",
                              .help = "auto | number of threads",
                              .min = 1,
                              .max = 1024,
                              .effect = Effect::kReported});
    f(s.recompute, Key{.name = "recompute",
                       .help = "none | attention | block: less memory, more time, same bits",
                       .choices = {"none", "attention", "block"},
                       .effect = Effect::kFree});
    f(s.reduction_shards,
      Key{.name = "reduction_shards",
          .help = "leaves of the gradient sum, a power of two: the largest number of ranks",
          .min = 1,
          .max = 65536});
  }
  bool operator==(const ParallelismConfig&) const = default;
};

struct CheckpointsConfig {
  int64_t checkpoint_interval = 500;
  int64_t keep_last = 3;
  int64_t keep_every = 0;
  int64_t keep_best = 1;
  int64_t max_failed_saves = 3;
  std::string on_nan = "stop";
  int64_t max_skipped_steps = 5;
  int64_t rollback_skip_steps = 20;
  std::string on_spike = "off";
  double spike_z_score = 6;
  int64_t replica_check_interval = 100;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.checkpoint_interval, Key{.name = "checkpoint_interval",
                                 .help = "steps between checkpoints; one more at the end",
                                 .min = 1,
                                 .max = 1e9,
                                 .effect = Effect::kFree});
    f(s.keep_last, Key{.name = "keep_last",
                       .help = "newest checkpoints to keep",
                       .min = 1,
                       .max = 1e9,
                       .effect = Effect::kFree});
    f(s.keep_every, Key{.name = "keep_every",
                        .help = "steps; keep every checkpoint at a multiple of this; 0: none",
                        .min = 0,
                        .max = 1e9,
                        .effect = Effect::kFree});
    f(s.keep_best, Key{.name = "keep_best",
                       .help = "checkpoints with the lowest validation loss to keep as well",
                       .min = 0,
                       .max = 1e9,
                       .effect = Effect::kFree});
    f(s.max_failed_saves, Key{.name = "max_failed_saves",
                              .help = "checkpoints that fail in a row before the run stops",
                              .min = 1,
                              .max = 1e9,
                              .effect = Effect::kFree});
    f(s.on_nan, Key{.name = "on_nan",
                    .help = "what a non-finite loss or gradient does: stop | skip | rollback",
                    .choices = {"stop", "skip", "rollback"},
                    .effect = Effect::kReported});
    f(s.max_skipped_steps, Key{.name = "max_skipped_steps",
                               .help = "steps skipped in a row before the run stops",
                               .min = 1,
                               .max = 1e9,
                               .effect = Effect::kReported});
    f(s.rollback_skip_steps, Key{.name = "rollback_skip_steps",
                                 .help = "steps left out after a rollback, the bad one the last",
                                 .min = 1,
                                 .max = 1e9,
                                 .effect = Effect::kReported});
    f(s.on_spike, Key{.name = "on_spike",
                      .help = "what a sudden rise of the loss does: off | warn | skip | rollback | "
                              "stop",
                      .choices = {"off", "warn", "skip", "rollback", "stop"},
                      .effect = Effect::kReported});
    f(s.spike_z_score,
      Key{.name = "spike_z_score",
          .help = "a rise of so many standard deviations over the last 200 losses is a spike",
          .min = 0,
          .max = 1e6,
          .exclude_min = true,
          .effect = Effect::kReported});
    f(s.replica_check_interval, Key{.name = "replica_check_interval",
                                    .help = "steps between comparisons of the ranks' states; 0: "
                                            "none",
                                    .min = 0,
                                    .max = 1e9,
                                    .effect = Effect::kFree});
  }
  bool operator==(const CheckpointsConfig&) const = default;
};

struct WatchdogConfig {
  int64_t setup_seconds = 3600;
  int64_t step_seconds = 3600;
  int64_t validation_seconds = 3600;
  int64_t checkpoint_seconds = 1800;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    const auto limit = [&f](auto& seconds, const char* name, const char* help) {
      f(seconds, Key{.name = name, .help = help, .min = 0, .max = 1e9, .effect = Effect::kFree});
    };
    limit(s.setup_seconds, "setup_seconds", "up to the first step, conversion included; 0: off");
    limit(s.step_seconds, "step_seconds", "one step; 0: off");
    limit(s.validation_seconds, "validation_seconds", "one validation; 0: off");
    limit(s.checkpoint_seconds, "checkpoint_seconds", "one checkpoint; 0: off");
  }
  bool operator==(const WatchdogConfig&) const = default;
};

struct LoggingConfig {
  int64_t iteration_step_info_interval = 10;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& f) {
    f(s.iteration_step_info_interval, Key{.name = "iteration_step_info_interval",
                                          .help = "steps between log lines",
                                          .min = 1,
                                          .max = 1e9,
                                          .effect = Effect::kFree});
  }
  bool operator==(const LoggingConfig&) const = default;
};

}  // namespace trainer
