#include "trainer/config/aliases.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace trainer {
namespace {

struct Alias {
  std::string_view name;    // as others spell it
  std::string_view whose;   // who does
  std::string_view target;  // our key
};

constexpr std::string_view kHf = "Hugging Face", kNanotron = "nanotron", kLitgpt = "litgpt",
                           kMha2mla = "MHA2MLA";

constexpr std::array kAliases = std::to_array<Alias>({
    {"per_device_train_batch_size", kHf, "tokens.micro_batch_size"},
    {"max_steps", kHf, "tokens.train_steps"},
    {"eval_steps", kHf, "tokens.val_check_interval"},
    {"max_seq_length", kHf, "tokens.sequence_length"},
    {"save_steps", kHf, "checkpoints.checkpoint_interval"},
    {"save_total_limit", kHf, "checkpoints.keep_last"},
    {"logging_steps", kHf, "logging.iteration_step_info_interval"},
    {"run_name", kHf, "general.run"},
    {"max_grad_norm", kHf, "optimizer.clip_grad"},
    {"adam_epsilon", kHf, "optimizer.optimizer_factory.adam_eps"},
    {"warmup_steps", kHf, "optimizer.learning_rate_scheduler.lr_warmup_steps"},
    {"lr", kHf, "optimizer.learning_rate_scheduler.learning_rate"},
    {"lr_scheduler_type", kHf, "optimizer.learning_rate_scheduler.lr_decay_style"},
    {"model_name_or_path", kHf, "model.init_from"},
    {"bf16", kHf, "model.dtype"},
    {"torch_dtype", kHf, "model.dtype"},
    {"gradient_checkpointing", kHf, "parallelism.recompute"},
    {"checkpoints_path", kNanotron, "general.output_dir"},
    {"limit_val_batches", kNanotron, "validation.windows_per_set"},
    {"recompute_layer", kNanotron, "parallelism.recompute"},
    {"seq_len", kLitgpt, "tokens.sequence_length"},
    {"block_size", kLitgpt, "tokens.sequence_length"},
    {"max_norm", kLitgpt, "optimizer.clip_grad"},
    {"min_lr", kLitgpt, "optimizer.learning_rate_scheduler.min_decay_lr"},
    {"lr_warmup_style", kNanotron, "optimizer.learning_rate_scheduler.lr_warmup_steps"},
    {"out_dir", kLitgpt, "general.output_dir"},
    {"checkpoint_dir", kLitgpt, "model.init_from"},
    {"save_interval", kLitgpt, "checkpoints.checkpoint_interval"},
    {"log_interval", kLitgpt, "logging.iteration_step_info_interval"},
    {"dataset_folders", kMha2mla, "data_stages.data.dataset.dataset_folder"},
    {"partial_rope_version", kMha2mla, "mla.rope.strategy"},
    {"rope_strategy", kMha2mla, "mla.rope.strategy"},
    {"top_k_rope_dim", kMha2mla, "mla.rope.rope_pairs_per_head"},
    {"uniform_start_point", kMha2mla, "mla.rope.uniform_start"},
    {"svd_init_method", kMha2mla, "mla.latent.method"},
    {"svd", kMha2mla, "mla.latent.method"},
    {"low_rank", kMha2mla, "mla.latent.latent_dims_per_kv_head"},
    {"kv_rank", kMha2mla, "mla.latent.latent_dims_per_kv_head"},
    {"sample_size", kMha2mla, "mla.calibration.windows"},
    {"is_freeze_non_attn", kMha2mla, "model.trainable"},
});

struct Explanation {
  std::string_view name, text;
};

constexpr std::string_view kBatchExplanation =
    "set tokens.global_batch_size = micro_batch_size x accumulation x dp: it does not depend on "
    "the number of ranks";
constexpr std::string_view kDimsExplanation =
    "use 'mla.rope.rope_pairs_per_head': pairs, half the number of dimensions";

constexpr std::array kExplanations = std::to_array<Explanation>({
    {"batch_accumulation_per_replica", kBatchExplanation},
    {"gradient_accumulation_steps", kBatchExplanation},
    {"gradient_accumulation_iters", kBatchExplanation},
    {"dp", kBatchExplanation},
    {"rope_dim", kDimsExplanation},
    {"rope_dim_for_mla", kDimsExplanation},
    {"num_train_epochs", "set tokens.train_steps: the length of a run is counted in updates"},
    {"epochs", "set tokens.train_steps: the length of a run is counted in updates"},
    {"warmup_ratio",
     "set optimizer.learning_rate_scheduler.lr_warmup_steps: warm-up is counted in updates"},
    {"resume_checkpoint_path", "use the option --resume"},
    {"resume_from_checkpoint", "use the option --resume"},
    {"tokenizer_name_or_path", "the tokenizer comes with model.init_from"},
});

}  // namespace

std::string advice_for_foreign_key(std::string_view name) {
  for (const Explanation& e : kExplanations)
    if (e.name == name) return std::string(e.text);
  for (const Alias& alias : kAliases)
    if (alias.name == name)
      return fmt::format("use '{}' ({} calls it '{}')", alias.target, alias.whose, alias.name);
  return "";
}

bool has_neutral_value(std::string_view dotted_key) {
  constexpr std::array<std::string_view, 3> kKeys = {"parallelism.tp", "parallelism.pp",
                                                     "parallelism.expert_parallel_size"};
  return std::find(kKeys.begin(), kKeys.end(), dotted_key) != kKeys.end();
}

}  // namespace trainer
