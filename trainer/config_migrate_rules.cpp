#include "trainer/config_migrate_rules.h"

#include <algorithm>
#include <array>
#include <string>

namespace trainer {
namespace {

using enum Carry;

constexpr std::string_view kSchedule = "the schedule is warm-up, constant, decay",
                           kRanksAreReplicas = "ranks are data parallel",
                           kOfTheModel = "the model at model.init_from says it",
                           kOwnLog = "trainer.log and metrics.jsonl have everything";

constexpr std::array kRules = std::to_array<MigrationRule>({
    {"general.project", kText, "general.project", "", ""},
    {"general.run", kText, "general.run", "", ""},
    {"run_name", kText, "general.run", "", ""},
    {"general.seed", kCopy, "general.seed", "", ""},
    {"seed", kCopy, "general.seed", "", ""},
    {"checkpoints.checkpoints_path", kText, "general.output_dir", "", ""},
    {"output_dir", kText, "general.output_dir", "", ""},
    {"general.benchmark_csv_path", kMeaningless, "", "metrics.csv has the times", ""},
    {"general.consumed_train_samples", kNeutral, "", "a run here starts at its first sample", "0"},
    {"general.step", kNeutral, "", "a run here starts at its first step", "0"},
    {"general.ignore_sanity_checks", kMeaningless, "", "checks are always on", ""},
    {"overwrite_output_dir", kNeutral, "", "a run folder is continued, never emptied", "false"},
    {"report_to", kMeaningless, "", "metrics.jsonl, metrics.csv and tb/ are always written", ""},

    {"model_name_or_path", kText, "model.init_from", "", ""},
    {"model.dtype", kCopy, "model.dtype", "", ""},
    {"bf16", kComputed, "", "", ""},
    {"fp16", kNeutral, "", "there is no float16 here", "false"},
    {"is_freeze_non_attn", kComputed, "", "", ""},
    {"save_initial_model", kMeaningless, "", "a converted model is kept in converted/", ""},
    {"model.ddp_bucket_cap_mb", kMeaningless, "", "gradients are summed another way", ""},
    {"model.init_method.std", kMeaningless, "", kOfTheModel, ""},
    {"model.make_vocab_size_divisible_by", kNeutral, "", kOfTheModel, "1"},
    {"model.model_config.AE.*", kNeutral, "", "the autoencoders of a branch are not here", ""},
    {"model.model_config.*", kMeaningless, "", kOfTheModel, ""},
    {"tokenizer.tokenizer_name_or_path", kComputed, "", "", ""},
    {"tokenizer_name_or_path", kMeaningless, "", "the tokenizer comes with model.init_from", ""},
    {"tokenizer.tokenizer_max_length", kMeaningless, "", "texts are tokenized before", ""},
    {"tokenizer.tokenizer_revision", kMeaningless, "", "model.init_from is a folder", ""},

    {"partial_rope_version", kComputed, "", "", ""},
    {"top_k_rope_dim", kComputed, "", "", ""},
    {"last_k_rope_dim", kComputed, "", "", ""},
    {"lask_k_rope_dim", kComputed, "", "", ""},  // as some published files spell it
    {"rope_dim_for_mla", kComputed, "", "", ""},
    {"uniform_start_point", kComputed, "", "", ""},
    {"uniform_step", kComputed, "", "", ""},
    {"qk_tensor_path", kComputed, "", "", ""},
    {"method", kComputed, "", "", ""},
    {"svd_init_method", kComputed, "", "", ""},
    {"low_rank", kComputed, "", "", ""},
    {"is_baseline", kComputed, "", "", ""},
    {"sample_size", kComputed, "", "", ""},
    {"n_gqa_group", kMeaningless, "", kOfTheModel, ""},
    {"is_gqa2mha2mla", kNeutral, "", "kv heads are never copied here", "false"},
    {"is_mla_from_scratch", kNeutral, "", "weights are never drawn anew here", "false"},
    {"batch_size", kMeaningless, "", "calibration chooses its own batch", ""},
    {"qk_output_dir", kMeaningless, "", "scores are kept in the run folder", ""},

    {"data_stages.*.name", kText, "data_stages.*.name", "", ""},
    {"data_stages.*.start_training_step", kCopy, "data_stages.*.start_training_step", "", ""},
    {"data_stages.*.data.seed", kCopy, "data_stages.*.data.seed", "", ""},
    {"data_stages.*.data.dataset.dataset_folder", kText,
     "data_stages.*.data.dataset.dataset_folder", "", ""},
    {"dataset_folders", kText, "data_stages.0.data.dataset.dataset_folder", "", ""},
    {"data_stages.*.data.dataset.dataset_weights", kCopy,
     "data_stages.*.data.dataset.dataset_weights", "", ""},
    {"dataset_weights", kCopy, "data_stages.0.data.dataset.dataset_weights", "", ""},
    {"data_stages.*.data.num_loading_workers", kMeaningless, "", "nothing is loaded ahead", ""},
    {"is_nanoset", kNeutral, "", "only shards are read: `mha2mla tokenize` makes them", "true"},
    {"dataset_name_or_path", kNeutral, "", "make shards of it with `mha2mla tokenize`", ""},
    {"hf_dataset_name_or_path", kNeutral, "", "make shards of it with `mha2mla tokenize`", ""},
    {"remove_unused_columns", kMeaningless, "", "shards have no columns", ""},
    {"dataloader_drop_last", kMeaningless, "", "every update has its whole batch", ""},

    {"tokens.sequence_length", kCopy, "tokens.sequence_length", "", ""},
    {"sequence_length", kCopy, "tokens.sequence_length", "", ""},
    {"tokens.micro_batch_size", kCopy, "tokens.micro_batch_size", "", ""},
    {"per_device_train_batch_size", kCopy, "tokens.micro_batch_size", "", ""},
    {"tokens.batch_accumulation_per_replica", kComputed, "", "", ""},
    {"gradient_accumulation_steps", kComputed, "", "", ""},
    {"parallelism.dp", kComputed, "", "", ""},
    {"tokens.train_steps", kCopy, "tokens.train_steps", "", ""},
    {"max_steps", kCopy, "tokens.train_steps", "", ""},
    {"tokens.val_check_interval", kMeaningless, "", "nothing is validated there: set validation",
     ""},
    {"tokens.limit_val_batches", kMeaningless, "", "nothing is validated there: set validation",
     ""},
    {"tokens.limit_test_batches", kMeaningless, "", "there is no test set", ""},

    {"optimizer.weight_decay", kCopy, "optimizer.weight_decay", "", ""},
    {"weight_decay", kCopy, "optimizer.weight_decay", "", ""},
    {"optimizer.weight_decay_exclude_named_params", kNeutral, "",
     "weight decay acts on all parameters", ""},
    {"optimizer.clip_grad", kCopy, "optimizer.clip_grad", "", ""},
    {"max_grad_norm", kCopy, "optimizer.clip_grad", "", ""},
    {"optimizer.zero_stage", kComputed, "", "", ""},
    {"deepspeed", kMeaningless, "", "see optimizer.zero_stage; the numbers do not depend on it",
     ""},
    {"optimizer.accumulate_grad_in_fp32", kNeutral, "", "gradients are always summed in float32",
     "true"},
    {"optimizer.optimizer_factory.name", kCopy, "optimizer.optimizer_factory.name", "", ""},
    {"optim", kNeutral, "", "the optimizer is AdamW",
     "adamw_torch|adamw_torch_fused|adamw_hf|adamw_apex_fused"},
    {"optimizer.optimizer_factory.adam_beta1", kCopy, "optimizer.optimizer_factory.adam_beta1", "",
     ""},
    {"adam_beta1", kCopy, "optimizer.optimizer_factory.adam_beta1", "", ""},
    {"optimizer.optimizer_factory.adam_beta2", kCopy, "optimizer.optimizer_factory.adam_beta2", "",
     ""},
    {"adam_beta2", kCopy, "optimizer.optimizer_factory.adam_beta2", "", ""},
    {"optimizer.optimizer_factory.adam_eps", kCopy, "optimizer.optimizer_factory.adam_eps", "", ""},
    {"adam_epsilon", kCopy, "optimizer.optimizer_factory.adam_eps", "", ""},
    {"optimizer.optimizer_factory.torch_adam_is_fused", kMeaningless, "", "it always is", ""},
    {"learning_rate", kCopy, "optimizer.learning_rate_scheduler.learning_rate", "", ""},
    {"optimizer.learning_rate_scheduler.learning_rate", kCopy,
     "optimizer.learning_rate_scheduler.learning_rate", "", ""},
    {"optimizer.learning_rate_scheduler.lr_warmup_style", kNeutral, "", "warm-up is linear",
     "linear"},
    {"lr_scheduler_kwargs.lr_warmup_style", kNeutral, "", "warm-up is linear", "linear"},
    {"optimizer.learning_rate_scheduler.lr_warmup_steps", kCopy,
     "optimizer.learning_rate_scheduler.lr_warmup_steps", "", ""},
    {"lr_scheduler_kwargs.lr_warmup_steps", kCopy,
     "optimizer.learning_rate_scheduler.lr_warmup_steps", "", ""},
    {"optimizer.learning_rate_scheduler.lr_decay_style", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_style", "", ""},
    {"lr_scheduler_kwargs.lr_decay_style", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_style", "", ""},
    {"optimizer.learning_rate_scheduler.lr_decay_starting_step", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_starting_step", "", ""},
    {"lr_scheduler_kwargs.lr_decay_starting_step", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_starting_step", "", ""},
    {"optimizer.learning_rate_scheduler.lr_decay_steps", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_steps", "", ""},
    {"lr_scheduler_kwargs.lr_decay_steps", kCopy,
     "optimizer.learning_rate_scheduler.lr_decay_steps", "", ""},
    {"optimizer.learning_rate_scheduler.min_decay_lr", kCopy,
     "optimizer.learning_rate_scheduler.min_decay_lr", "", ""},
    {"lr_scheduler_kwargs.min_decay_lr", kCopy, "optimizer.learning_rate_scheduler.min_decay_lr",
     "", ""},
    {"use_constant_with_warmup_decay_scheduler", kMeaningless, "", kSchedule, ""},
    {"lr_scheduler_type", kComputed, "", "", ""},
    {"warmup_steps", kComputed, "", "", ""},
    {"warmup_ratio", kComputed, "", "", ""},

    {"parallelism.recompute_layer", kComputed, "", "", ""},
    {"gradient_checkpointing", kComputed, "", "", ""},
    {"parallelism.tp", kNeutral, "", kRanksAreReplicas, "1"},
    {"parallelism.pp", kNeutral, "", kRanksAreReplicas, "1"},
    {"parallelism.expert_parallel_size", kNeutral, "", kRanksAreReplicas, "1"},
    {"parallelism.*", kMeaningless, "", kRanksAreReplicas, ""},

    {"checkpoints.checkpoint_interval", kCopy, "checkpoints.checkpoint_interval", "", ""},
    {"save_steps", kComputed, "", "", ""},
    {"save_strategy", kNeutral, "", "checkpoints come every so many steps", "steps"},
    {"save_total_limit", kCopy, "checkpoints.keep_last", "", ""},
    {"checkpoints.resume_checkpoint_path", kNeutral, "",
     "checkpoints of nanotron are not read: give the Hugging Face folder of the same model", ""},
    {"resume_from_checkpoint", kNeutral, "", "use the option --resume of `mha2mla train`", "false"},
    {"checkpoints.load_optimizer", kNeutral, "", "an optimizer of another program is not read",
     "false"},
    {"checkpoints.load_lr_scheduler", kNeutral, "", "the schedule starts at step 1", "false"},
    {"checkpoints.save_initial_state", kMeaningless, "", "a converted model is kept in converted/",
     ""},
    {"checkpoints.save_final_state", kMeaningless, "", "the last step always is saved", ""},
    {"checkpoints.checkpoints_path_is_shared_file_system", kMeaningless, "", "rank 0 writes", ""},

    {"logging.iteration_step_info_interval", kCopy, "logging.iteration_step_info_interval", "", ""},
    {"logging_steps", kComputed, "", "", ""},
    {"logging_strategy", kNeutral, "", "lines come every so many steps", "steps"},
    {"logging.*", kMeaningless, "", kOwnLog, ""},
    {"profiler", kNeutral, "", "MHA2MLA_TRACE makes a profile", ""},
});

constexpr std::array kDefaults = std::to_array<ForeignDefault>({
    {Dialect::kNanotron, "lr_decay_style", "optimizer.learning_rate_scheduler.lr_decay_style",
     "linear"},
    {Dialect::kNanotron, "min_decay_lr", "optimizer.learning_rate_scheduler.min_decay_lr",
     "1.0e-5"},
    {Dialect::kHuggingFace, "per_device_train_batch_size", "tokens.micro_batch_size", "8"},
    {Dialect::kHuggingFace, "weight_decay", "optimizer.weight_decay", "0.0"},
    {Dialect::kHuggingFace, "adam_beta2", "optimizer.optimizer_factory.adam_beta2", "0.999"},
    {Dialect::kHuggingFace, "learning_rate", "optimizer.learning_rate_scheduler.learning_rate",
     "5.0e-5"},
    {Dialect::kHuggingFace, "the seed of its data class", "data_stages.0.data.seed", "1234"},
});

// "data_stages.3.name" -> "data_stages.*.name"
std::string without_indices(std::string_view key) {
  std::string plain;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string_view name = key.substr(begin, end - begin);
    const bool is_index =
        !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
    plain.append(begin > 0 ? "." : "").append(is_index ? "*" : name);
    begin = end + 1;
  }
  return plain;
}

}  // namespace

std::span<const MigrationRule> migration_rules() { return kRules; }
std::span<const ForeignDefault> foreign_defaults() { return kDefaults; }

const MigrationRule* find_migration_rule(std::string_view theirs) {
  const std::string key = without_indices(theirs);
  for (const MigrationRule& rule : kRules) {
    const bool is_family = rule.theirs.ends_with(".*");
    const std::string_view family = rule.theirs.substr(0, rule.theirs.size() - 1);
    if (is_family ? key.starts_with(family) : key == rule.theirs) return &rule;
  }
  return nullptr;
}

}  // namespace trainer
