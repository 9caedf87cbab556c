// What several keys of other programs make together: batches, schedule, intervals, precision.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/config/migrate_draft.h"
#include "trainer/config/scalars.h"

namespace trainer {
namespace {

constexpr char kScheduler[] = "optimizer.learning_rate_scheduler.";

std::optional<int64_t> integer_of_ours(const MigrationDraft& draft, const std::string& ours) {
  const std::string* yaml = draft.find_ours(ours);
  return yaml == nullptr ? std::nullopt : parse_integer(*yaml);
}

void set_and_note(MigrationDraft& draft, std::string_view theirs, const std::string& ours,
                  const std::string& yaml) {
  const ForeignKey* key = draft.find(theirs);
  const std::string shown =
      key != nullptr ? " " + shown_value(key->value) : std::string(" left out");
  const bool is_same = theirs == ours && key != nullptr && shown_value(key->value) == yaml;
  if (draft.set(ours, yaml, theirs) && !is_same)
    draft.note_change(fmt::format("{}{} -> {}: {}", theirs, shown, ours, yaml));
}

// A part of all steps where it is below 1, as Hugging Face has it.
void migrate_interval(MigrationDraft& draft, std::string_view theirs, const std::string& ours) {
  const std::optional<double> given = draft.number(theirs);
  if (!given) return;
  const auto steps = integer_of_ours(draft, "tokens.train_steps");
  if (*given >= 1 || !steps)
    return set_and_note(draft, theirs, ours, shown_value(draft.find(theirs)->value));
  const double interval = std::ceil(*given * static_cast<double>(*steps));
  set_and_note(draft, theirs, ours, fmt::format("{:.0f}", std::max(interval, 1.0)));
}

// nanotron: without a start the decay follows the warm-up, without a length it takes what is left.
void complete_schedule_of_nanotron(MigrationDraft& draft, int64_t steps) {
  const std::string start = std::string(kScheduler) + "lr_decay_starting_step",
                    length = std::string(kScheduler) + "lr_decay_steps";
  const int64_t warmup =
      integer_of_ours(draft, kScheduler + std::string("lr_warmup_steps")).value_or(0);
  const int64_t before = integer_of_ours(draft, start).value_or(0);
  set_and_note(draft, length, length,
               std::to_string(std::max<int64_t>(0, steps - warmup - before)));
  set_and_note(draft, start, start, std::to_string(warmup));
}

// The schedules of Hugging Face decay from the warm-up to the last step.
void migrate_schedule_of_hugging_face(MigrationDraft& draft, int64_t steps) {
  const std::string type = draft.word("lr_scheduler_type", "linear");
  const std::string prefix = kScheduler;
  int64_t warmup = draft.integer("warmup_steps", 0).value_or(0);
  const char* from = "warmup_steps";
  if (const auto ratio = draft.number("warmup_ratio"); ratio && warmup == 0) {
    warmup = static_cast<int64_t>(std::ceil(std::min(*ratio, 1.0) * static_cast<double>(steps)));
    from = "warmup_ratio";
  }
  if (type != "constant" && draft.find(from) != nullptr)
    set_and_note(draft, from, prefix + "lr_warmup_steps", std::to_string(warmup));
  if (type == "linear" || type == "cosine") {
    set_and_note(draft, "lr_scheduler_type", prefix + "lr_decay_style", type);
    draft.set(prefix + "lr_decay_starting_step", std::to_string(warmup), from);
    draft.set(prefix + "lr_decay_steps", std::to_string(std::max<int64_t>(0, steps - warmup)));
  } else if (type != "constant" && type != "constant_with_warmup") {
    draft.note_lost(
        fmt::format("lr_scheduler_type {}: here are warm-up, constant, and a decay by "
                    "1-sqrt, cosine or linear",
                    shown_value(draft.find("lr_scheduler_type")->value)));
  }
}

}  // namespace

void migrate_model(MigrationDraft& draft) {
  if (draft.dialect() == Dialect::kNanotron) {
    constexpr char kTokenizer[] = "tokenizer.tokenizer_name_or_path";
    if (const ForeignKey* key = draft.find(kTokenizer);
        key != nullptr && draft.find_ours("model.init_from") == nullptr) {
      draft.set("model.init_from", yaml_of(key->value, true), kTokenizer);
      draft.note_change(fmt::format("{} -> model.init_from: {}, which must have the weights, too",
                                    kTokenizer, shown_value(key->value)));
    }
  } else {
    set_and_note(draft, "bf16", "model.dtype", draft.is_true("bf16") ? "bfloat16" : "float32");
  }
  if (draft.find("is_freeze_non_attn") != nullptr)
    set_and_note(draft, "is_freeze_non_attn", "model.trainable",
                 draft.is_true("is_freeze_non_attn") ? "attention" : "all");
  for (const char* theirs : {"parallelism.recompute_layer", "gradient_checkpointing"})
    if (draft.find(theirs) != nullptr)
      set_and_note(draft, theirs, "parallelism.recompute",
                   draft.is_true(theirs) ? "block" : "none");
}

void migrate_batches(MigrationDraft& draft) {
  const bool is_nanotron = draft.dialect() == Dialect::kNanotron;
  const char* const accumulation =
      is_nanotron ? "tokens.batch_accumulation_per_replica" : "gradient_accumulation_steps";
  const int64_t accumulated = draft.integer(accumulation, 1).value_or(1);
  const int64_t processes = draft.integer("parallelism.dp", 1).value_or(1);
  const auto micro = integer_of_ours(draft, "tokens.micro_batch_size");
  constexpr int64_t kMost = 1'000'000;  // of each: their product is below 2^63
  if (micro && *micro > 0 && std::max({*micro, accumulated, processes}) <= kMost) {
    const std::string global = std::to_string(*micro * accumulated * processes);
    if (draft.set("tokens.global_batch_size", global, accumulation)) {
      draft.note_change(
          fmt::format("{} {} x {} {} x {} {} -> tokens.global_batch_size: {}",
                      is_nanotron ? "tokens.micro_batch_size" : "per_device_train_batch_size",
                      *micro, accumulation, accumulated,
                      is_nanotron ? "parallelism.dp" : "processes", processes, global));
      if (!is_nanotron)
        draft.note_lost(
            fmt::format("the number of processes is in none of the files: "
                        "tokens.global_batch_size: {} is the batch of one",
                        global));
    }
  }
  if (const auto stage = draft.integer("optimizer.zero_stage", 0))
    set_and_note(draft, "optimizer.zero_stage", "optimizer.zero_stage",
                 std::to_string(std::min<int64_t>(*stage, 1)));
}

void migrate_schedule(MigrationDraft& draft) {
  const auto steps = integer_of_ours(draft, "tokens.train_steps");
  if (!steps) return;  // told as missing or wrong in the end
  const auto& keys = draft.keys();
  const bool has_own = std::any_of(keys.begin(), keys.end(), [](const ForeignKey& key) {
    return key.name.starts_with("lr_scheduler_kwargs.");
  });
  if (draft.dialect() == Dialect::kNanotron)
    complete_schedule_of_nanotron(draft, *steps);
  else if (!has_own)
    migrate_schedule_of_hugging_face(draft, *steps);
  else
    for (const char* theirs : {"lr_scheduler_type", "warmup_steps", "warmup_ratio"})
      if (draft.find(theirs) != nullptr)
        draft.note_dropped(fmt::format("{}: lr_scheduler_kwargs says it", theirs));
}

void migrate_intervals(MigrationDraft& draft) {
  migrate_interval(draft, "save_steps", "checkpoints.checkpoint_interval");
  migrate_interval(draft, "logging_steps", "logging.iteration_step_info_interval");
}

}  // namespace trainer
