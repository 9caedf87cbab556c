// Partial RoPE and latents, as the two generations of the public code number and name them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "trainer/config/migrate_draft.h"

namespace trainer {
namespace {

using Names = std::vector<std::string_view>;

constexpr std::array<std::string_view, 8> kRopeKeys = {
    "partial_rope_version", "top_k_rope_dim",      "last_k_rope_dim", "lask_k_rope_dim",
    "rope_dim_for_mla",     "uniform_start_point", "uniform_step",    "qk_tensor_path"};
constexpr std::array<std::string_view, 3> kLatentKeys = {"svd_init_method", "method", "low_rank"};

struct Version {
  std::string_view number, name, strategy;
};
constexpr std::array kVersions = std::to_array<Version>({{"0", "full-rope", "full"},
                                                         {"1", "high", "high"},
                                                         {"2", "uniform", "uniform"},
                                                         {"3", "high-low", "high-low"},
                                                         {"4", "2-norm", "2-norm"},
                                                         {"5", "low", "low"},
                                                         {"6", "2_norm", "2-norm"}});

struct Latent {
  std::string_view number, name, method, difference;  // difference: what is not carried over
};
constexpr std::array kLatents = std::to_array<Latent>({
    {"0", "none", "none", ""},
    {"1", "", "joint", "the average of two bases: joint is the best shared one"},
    {"2", "split", "split", ""},
    {"3", "", "split", "the root of sigma in both factors: the same function, trained otherwise"},
    {"4", "", "joint", "the average of two bases: joint is the best shared one"},
    {"5", "", "joint", "the basis of the keys alone: joint is the best shared one"},
    {"6", "", "joint", "the basis of the values alone: joint is the best shared one"},
    {"7", "joint", "joint", ""},
    {"", "only_key", "joint", "a latent of the keys alone: joint is one of both"},
    {"", "only_value", "joint", "a latent of the values alone: joint is one of both"},
});

// "top_k_rope_dim 4, uniform_step 0", of those that are there.
std::string shown_keys(const MigrationDraft& draft, const auto& names) {
  std::string text;
  for (const std::string_view name : names)
    if (const ForeignKey* key = draft.find(name))
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, shown_value(key->value));
  return text;
}

bool has_any(const MigrationDraft& draft, const auto& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view name) { return draft.find(name) != nullptr; });
}

bool is_second_generation(const MigrationDraft& draft) {
  return has_any(draft, Names{"svd_init_method", "rope_dim_for_mla", "is_baseline",
                              "is_gqa2mha2mla", "is_mla_from_scratch"});
}

struct Rope {
  std::string strategy;
  int64_t pairs = 0;
  Names used = {"partial_rope_version"};
};

// r = P / step; P is that of the model, which only nanotron's file describes.
int64_t pairs_of_uniform(const MigrationDraft& draft) {
  const std::string model = "model.model_config.";
  const auto hidden = draft.integer(model + "hidden_size", 1);
  const auto heads = draft.integer(model + "num_attention_heads", 1);
  const auto step = draft.integer("uniform_step", 1);
  if (!hidden || !heads || !step) return 0;
  return *hidden / *heads / 2 / *step;
}

void read_pairs_of_first(const MigrationDraft& draft, Rope& rope) {
  const auto read = [&](std::string_view name) {
    rope.used.push_back(name);
    return draft.integer(name, -1'000'000).value_or(0);
  };
  if (rope.strategy == "uniform") {
    rope.used.insert(rope.used.end(), {"uniform_start_point", "uniform_step"});
    rope.pairs = pairs_of_uniform(draft);
    return;
  }
  if (rope.strategy == "full") return;
  const bool has_low = rope.strategy == "low" || rope.strategy == "high-low";
  if (rope.strategy != "low") rope.pairs += read("top_k_rope_dim");
  if (has_low) rope.pairs += read("last_k_rope_dim") + read("lask_k_rope_dim");
}

Rope read_rope(MigrationDraft& draft) {
  Rope rope;
  const std::string version =
      draft.word("partial_rope_version", is_second_generation(draft) ? "high" : "0");
  const auto* found = std::find_if(kVersions.begin(), kVersions.end(), [&](const Version& v) {
    return version == v.number || version == v.name;
  });
  if (found == kVersions.end())
    draft.refuse(*draft.find("partial_rope_version"),
                 "0 to 6, or one of full-rope, high, low, uniform, 2-norm");
  rope.strategy = found->strategy;
  if (rope.strategy == "2-norm") rope.used.push_back("qk_tensor_path");
  if (is_second_generation(draft)) {
    if (rope.strategy == "uniform") rope.used.push_back("uniform_start_point");
    rope.used.push_back("rope_dim_for_mla");
    const int64_t dims = draft.integer("rope_dim_for_mla", 0).value_or(0);
    if (dims % 2 != 0) draft.refuse(*draft.find("rope_dim_for_mla"), "an even number");
    rope.pairs = dims / 2;
  } else {
    read_pairs_of_first(draft, rope);
  }
  if (rope.pairs <= 0 && rope.strategy != "full" && rope.strategy != "uniform")
    rope.strategy = "none";  // as both generations mean it
  if (version == "6")
    draft.note_lost(
        "partial_rope_version 6: the number of pairs may differ between the heads of a layer "
        "there, and is the same in all here");
  return rope;
}

void check_high_and_low(MigrationDraft& draft, const Rope& rope) {
  if (rope.strategy != "high-low") return;
  const int64_t high = draft.integer("top_k_rope_dim", -1'000'000).value_or(0);
  if (high != (rope.pairs + 1) / 2)
    draft.note_lost(
        fmt::format("partial_rope_version 3 with {} high and {} low pairs: here they "
                    "are dealt evenly, an odd one to the high",
                    high, rope.pairs - high));
}

void set_rope(MigrationDraft& draft, const Rope& rope) {
  check_high_and_low(draft, rope);
  draft.set("mla.rope.strategy", rope.strategy, "partial_rope_version");
  if (rope.pairs > 0)
    draft.set("mla.rope.rope_pairs_per_head", std::to_string(rope.pairs), rope.used.back());
  const std::string* pairs = draft.find_ours("mla.rope.rope_pairs_per_head");
  draft.note_change(fmt::format("{} -> mla.rope.strategy: {}{}", shown_keys(draft, rope.used),
                                *draft.find_ours("mla.rope.strategy"),
                                pairs == nullptr ? "" : ", .rope_pairs_per_head: " + *pairs));
  if (rope.strategy == "uniform" && draft.find("uniform_start_point") != nullptr)
    draft.set("mla.rope.uniform_start", shown_value(draft.find("uniform_start_point")->value),
              "uniform_start_point");
  Names unused;
  for (const std::string_view name : kRopeKeys)
    if (std::find(rope.used.begin(), rope.used.end(), name) == rope.used.end())
      unused.push_back(name);
  if (has_any(draft, unused))
    draft.note_dropped(shown_keys(draft, unused) + ": this strategy does not use it");
  if (rope.strategy != "2-norm") return;
  // The tensors of the first generation hold sums.
  const char* const score = is_second_generation(draft) ? "product" : "sum";
  draft.set("mla.rope.score", score);
  draft.note_change(
      fmt::format("the scores are computed, not read (mla.calibration): "
                  "mla.rope.score: {}",
                  score));
}

void without_conversion(MigrationDraft& draft) {
  if (draft.find("sample_size") != nullptr)
    draft.note_dropped(shown_keys(draft, Names{"sample_size"}) + ": nothing is calibrated");
}

void set_latent(MigrationDraft& draft, const Latent& latent, std::string_view decides) {
  draft.set("mla.latent.method", std::string(latent.method), decides);
  if (latent.method != "none")
    draft.set("mla.latent.latent_dims_per_kv_head",
              draft.find("low_rank") != nullptr ? shown_value(draft.find("low_rank")->value) : "8",
              "low_rank");
  else if (draft.find("low_rank") != nullptr)
    draft.note_dropped(shown_keys(draft, Names{"low_rank"}) + ": there is no latent");
  const std::string* dims = draft.find_ours("mla.latent.latent_dims_per_kv_head");
  draft.note_change(fmt::format("{} -> mla.latent.method: {}{}", shown_keys(draft, kLatentKeys),
                                *draft.find_ours("mla.latent.method"),
                                dims == nullptr ? "" : ", .latent_dims_per_kv_head: " + *dims));
  if (!latent.difference.empty())
    draft.note_lost(fmt::format("{}: {}", shown_keys(draft, Names{decides}), latent.difference));
}

}  // namespace

void migrate_conversion(MigrationDraft& draft) {
  const bool has_keys = has_any(draft, kRopeKeys) || has_any(draft, kLatentKeys);
  if (draft.is_true("is_baseline")) {
    draft.note_change("is_baseline true -> no section mla");
    for (const auto& text : {shown_keys(draft, kRopeKeys), shown_keys(draft, kLatentKeys)})
      if (!text.empty()) draft.note_dropped(text + ": a baseline does not use it");
    return;
  }
  if (draft.find("is_baseline") != nullptr)
    draft.note_dropped("is_baseline false: there is a section mla, or there is none");
  if (!has_keys) return without_conversion(draft);
  const std::string_view decides = draft.find("method") != nullptr ? "method" : "svd_init_method";
  const std::string method = draft.word(decides, "none");
  const auto* latent = std::find_if(kLatents.begin(), kLatents.end(), [&](const Latent& l) {
    return !method.empty() && (method == l.number || method == l.name);
  });
  if (latent == kLatents.end())
    draft.refuse(*draft.find(decides),
                 "0 to 7, or one of none, joint, split, only_key, only_value");
  const Rope rope = read_rope(draft);
  if (rope.strategy == "full" && latent->method == "none") {
    draft.note_change(fmt::format("{}: all of RoPE and no latent -> no section mla",
                                  shown_keys(draft, kRopeKeys)));
    return without_conversion(draft);
  }
  set_rope(draft, rope);
  set_latent(draft, *latent, decides);
  if (const ForeignKey* samples = draft.find("sample_size")) {
    draft.set("mla.calibration.windows", shown_value(samples->value), "sample_size");
    draft.note_change(
        fmt::format("sample_size -> mla.calibration.windows: {}", shown_value(samples->value)));
  }
}

}  // namespace trainer
