#include "trainer/config/migrate_rules.h"

#include <algorithm>
#include <array>
#include <string>

namespace trainer {
namespace {

constexpr std::string_view kSchedule = "the schedule is warm-up, constant, decay",
                           kRanksAreReplicas = "ranks are data parallel",
                           kOfTheModel = "the model at model.init_from says it",
                           kOwnLog = "trainer.log and metrics.jsonl have everything";

// The kinds of rules; a key keeps its name unless ours is given.
constexpr MigrationRule copy(std::string_view theirs, std::string_view ours) {
  return {theirs, Carry::kCopy, ours, "", ""};
}
constexpr MigrationRule copy(std::string_view key) { return copy(key, key); }
constexpr MigrationRule text(std::string_view theirs, std::string_view ours) {
  return {theirs, Carry::kText, ours, "", ""};
}
constexpr MigrationRule text(std::string_view key) { return text(key, key); }
constexpr MigrationRule dropped(std::string_view theirs, std::string_view why) {
  return {theirs, Carry::kMeaningless, "", why, ""};
}
constexpr MigrationRule neutral(std::string_view theirs, std::string_view why,
                                std::string_view values = "") {
  return {theirs, Carry::kNeutral, "", why, values};
}
constexpr MigrationRule computed(std::string_view theirs) {
  return {theirs, Carry::kComputed, "", "", ""};
}

constexpr std::array kRules = std::to_array<MigrationRule>({
    text("general.project"),
    text("general.run"),
    text("run_name", "general.run"),
    copy("general.seed"),
    copy("seed", "general.seed"),
    text("checkpoints.checkpoints_path", "general.output_dir"),
    text("output_dir", "general.output_dir"),
    dropped("general.benchmark_csv_path", "metrics.csv has the times"),
    neutral("general.consumed_train_samples", "a run here starts at its first sample", "0"),
    neutral("general.step", "a run here starts at its first step", "0"),
    dropped("general.ignore_sanity_checks", "checks are always on"),
    neutral("overwrite_output_dir", "a run folder is continued, never emptied", "false"),
    dropped("report_to", "metrics.jsonl, metrics.csv and tb/ are always written"),

    text("model_name_or_path", "model.init_from"),
    copy("model.dtype"),
    computed("bf16"),
    neutral("fp16", "there is no float16 here", "false"),
    computed("is_freeze_non_attn"),
    dropped("save_initial_model", "a converted model is kept in converted/"),
    dropped("model.ddp_bucket_cap_mb", "gradients are summed another way"),
    dropped("model.init_method.std", kOfTheModel),
    neutral("model.make_vocab_size_divisible_by", kOfTheModel, "1"),
    neutral("model.model_config.AE.*", "the autoencoders of a branch are not here"),
    dropped("model.model_config.*", kOfTheModel),
    computed("tokenizer.tokenizer_name_or_path"),
    dropped("tokenizer_name_or_path", "the tokenizer comes with model.init_from"),
    dropped("tokenizer.tokenizer_max_length", "texts are tokenized before"),
    dropped("tokenizer.tokenizer_revision", "model.init_from is a folder"),

    computed("partial_rope_version"),
    computed("top_k_rope_dim"),
    computed("last_k_rope_dim"),
    computed("lask_k_rope_dim"),  // as some published files spell it
    computed("rope_dim_for_mla"),
    computed("uniform_start_point"),
    computed("uniform_step"),
    computed("qk_tensor_path"),
    computed("method"),
    computed("svd_init_method"),
    computed("low_rank"),
    computed("is_baseline"),
    computed("sample_size"),
    dropped("n_gqa_group", kOfTheModel),
    neutral("is_gqa2mha2mla", "kv heads are never copied here", "false"),
    neutral("is_mla_from_scratch", "weights are never drawn anew here", "false"),
    dropped("batch_size", "calibration chooses its own batch"),
    dropped("qk_output_dir", "scores are kept in the run folder"),

    text("data_stages.*.name"),
    copy("data_stages.*.start_training_step"),
    copy("data_stages.*.data.seed"),
    text("data_stages.*.data.dataset.dataset_folder"),
    text("dataset_folders", "data_stages.0.data.dataset.dataset_folder"),
    copy("data_stages.*.data.dataset.dataset_weights"),
    copy("dataset_weights", "data_stages.0.data.dataset.dataset_weights"),
    dropped("data_stages.*.data.num_loading_workers", "nothing is loaded ahead"),
    neutral("is_nanoset", "only shards are read: `mha2mla tokenize` makes them", "true"),
    neutral("dataset_name_or_path", "make shards of it with `mha2mla tokenize`"),
    neutral("hf_dataset_name_or_path", "make shards of it with `mha2mla tokenize`"),
    dropped("remove_unused_columns", "shards have no columns"),
    dropped("dataloader_drop_last", "every update has its whole batch"),

    copy("tokens.sequence_length"),
    copy("sequence_length", "tokens.sequence_length"),
    copy("tokens.micro_batch_size"),
    copy("per_device_train_batch_size", "tokens.micro_batch_size"),
    computed("tokens.batch_accumulation_per_replica"),
    computed("gradient_accumulation_steps"),
    computed("parallelism.dp"),
    copy("tokens.train_steps"),
    copy("max_steps", "tokens.train_steps"),
    dropped("tokens.val_check_interval", "nothing is validated there: set validation"),
    dropped("tokens.limit_val_batches", "nothing is validated there: set validation"),
    dropped("tokens.limit_test_batches", "there is no test set"),

    copy("optimizer.weight_decay"),
    copy("weight_decay", "optimizer.weight_decay"),
    neutral("optimizer.weight_decay_exclude_named_params", "weight decay acts on all parameters"),
    copy("optimizer.clip_grad"),
    copy("max_grad_norm", "optimizer.clip_grad"),
    computed("optimizer.zero_stage"),
    dropped("deepspeed", "see optimizer.zero_stage; the numbers do not depend on it"),
    neutral("optimizer.accumulate_grad_in_fp32", "gradients are always summed in float32", "true"),
    copy("optimizer.optimizer_factory.name"),
    neutral("optim", "the optimizer is AdamW",
            "adamw_torch|adamw_torch_fused|adamw_hf|adamw_apex_fused"),
    copy("optimizer.optimizer_factory.adam_beta1"),
    copy("adam_beta1", "optimizer.optimizer_factory.adam_beta1"),
    copy("optimizer.optimizer_factory.adam_beta2"),
    copy("adam_beta2", "optimizer.optimizer_factory.adam_beta2"),
    copy("optimizer.optimizer_factory.adam_eps"),
    copy("adam_epsilon", "optimizer.optimizer_factory.adam_eps"),
    dropped("optimizer.optimizer_factory.torch_adam_is_fused", "it always is"),
    copy("learning_rate", "optimizer.learning_rate_scheduler.learning_rate"),
    copy("optimizer.learning_rate_scheduler.learning_rate"),
    neutral("optimizer.learning_rate_scheduler.lr_warmup_style", "warm-up is linear", "linear"),
    neutral("lr_scheduler_kwargs.lr_warmup_style", "warm-up is linear", "linear"),
    copy("optimizer.learning_rate_scheduler.lr_warmup_steps"),
    copy("lr_scheduler_kwargs.lr_warmup_steps",
         "optimizer.learning_rate_scheduler.lr_warmup_steps"),
    copy("optimizer.learning_rate_scheduler.lr_decay_style"),
    copy("lr_scheduler_kwargs.lr_decay_style", "optimizer.learning_rate_scheduler.lr_decay_style"),
    copy("optimizer.learning_rate_scheduler.lr_decay_starting_step"),
    copy("lr_scheduler_kwargs.lr_decay_starting_step",
         "optimizer.learning_rate_scheduler.lr_decay_starting_step"),
    copy("optimizer.learning_rate_scheduler.lr_decay_steps"),
    copy("lr_scheduler_kwargs.lr_decay_steps", "optimizer.learning_rate_scheduler.lr_decay_steps"),
    copy("optimizer.learning_rate_scheduler.min_decay_lr"),
    copy("lr_scheduler_kwargs.min_decay_lr", "optimizer.learning_rate_scheduler.min_decay_lr"),
    dropped("use_constant_with_warmup_decay_scheduler", kSchedule),
    computed("lr_scheduler_type"),
    computed("warmup_steps"),
    computed("warmup_ratio"),

    computed("parallelism.recompute_layer"),
    computed("gradient_checkpointing"),
    neutral("parallelism.tp", kRanksAreReplicas, "1"),
    neutral("parallelism.pp", kRanksAreReplicas, "1"),
    neutral("parallelism.expert_parallel_size", kRanksAreReplicas, "1"),
    dropped("parallelism.*", kRanksAreReplicas),

    copy("checkpoints.checkpoint_interval"),
    computed("save_steps"),
    neutral("save_strategy", "checkpoints come every so many steps", "steps"),
    copy("save_total_limit", "checkpoints.keep_last"),
    neutral("checkpoints.resume_checkpoint_path",
            "checkpoints of nanotron are not read: give the Hugging Face folder of the same model"),
    neutral("resume_from_checkpoint", "use the option --resume of `mha2mla train`", "false"),
    neutral("checkpoints.load_optimizer", "an optimizer of another program is not read", "false"),
    neutral("checkpoints.load_lr_scheduler", "the schedule starts at step 1", "false"),
    dropped("checkpoints.save_initial_state", "a converted model is kept in converted/"),
    dropped("checkpoints.save_final_state", "the last step always is saved"),
    dropped("checkpoints.checkpoints_path_is_shared_file_system", "rank 0 writes"),

    copy("logging.iteration_step_info_interval"),
    computed("logging_steps"),
    neutral("logging_strategy", "lines come every so many steps", "steps"),
    dropped("logging.*", kOwnLog),
    neutral("profiler", "MHA2MLA_TRACE makes a profile"),
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
