// Files of nanotron and of both generations of the public code: what they become, and that nothing
// of them disappears without a word.
#include "trainer/config/migrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/config/config.h"
#include "trainer/config/migrate_rules.h"

namespace trainer {
namespace {

using Texts = std::vector<std::string>;

std::string example(const std::string& name) {
  return test_support::slurp(fs::path(MHA2MLA_TEST_DATA) / "migrate" / name);
}

// Examples by name, or texts.
Migration migrate(const Texts& files, const Texts& overrides = {}) {
  std::vector<MigrationFile> read;
  for (const std::string& file : files) {
    const bool is_text = file.find('\n') != std::string::npos;
    read.push_back({is_text ? "theirs.yaml" : file, is_text ? file : example(file)});
  }
  return migrate_configs(read, overrides);
}

Config config_of(const Migration& migration) { return parse_config(migration.yaml, "/m/run.yaml"); }

bool holds(const Texts& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

std::string with(std::string text, const std::string& old, const std::string& now) {
  const size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << old;
  return at == std::string::npos ? text : text.replace(at, old.size(), now);
}

const std::string kShortRun =
    "model_name_or_path: /m\ndataset_folders: [/a.ds]\nmax_steps: 1000\nbf16: true\n";

TEST(Migrate, Nanotron) {
  const Migration m = migrate({"nanotron.yaml"});
  const Config c = config_of(m);
  EXPECT_EQ(c.general.run, "135m_rope_v4_top4_svd_method7_rank16_%date");
  EXPECT_EQ(c.general.output_dir, "/data/checkpoints/135m");
  EXPECT_EQ(c.model.init_from, "/data/models/SmolLM-135M");
  ASSERT_TRUE(c.mla.has_value());
  EXPECT_EQ(c.mla->rope.strategy, "2-norm");
  EXPECT_EQ(c.mla->rope.rope_pairs_per_head, 4);
  EXPECT_EQ(c.mla->rope.score, "sum");
  EXPECT_EQ(c.mla->latent.method, "joint");
  EXPECT_EQ(c.mla->latent.latent_dims_per_kv_head, 16);
  ASSERT_EQ(c.data_stages.size(), 1u);
  EXPECT_EQ(c.data_stages[0].name, "training");
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_folder.size(), 3u);
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_weights, (std::vector<double>{0.7, 0.15, 0.15}));
  EXPECT_EQ(c.tokens.global_batch_size, 8 * 2 * 4);
  EXPECT_EQ(c.tokens.train_steps, 18000);
  const LearningRateConfig& lr = c.optimizer.learning_rate_scheduler;
  EXPECT_EQ(lr.lr_warmup_steps, 900);
  EXPECT_EQ(lr.lr_decay_starting_step, 16200);
  EXPECT_EQ(lr.lr_decay_steps, 1800);
  EXPECT_EQ(lr.lr_decay_style, "1-sqrt");
  EXPECT_EQ(c.parallelism.recompute, "none");
  EXPECT_TRUE(config_warnings(c).empty());
  ASSERT_EQ(m.lost.size(), 1u);
  EXPECT_TRUE(holds(m.lost, "checkpoints.resume_checkpoint_path"));
  EXPECT_TRUE(holds(m.dropped, "model.model_config.* (bos_token_id, "));
}

TEST(Migrate, FirstGenerationFromThreeFiles) {
  const Migration m = migrate({"v1_run.yaml", "v1_rope.yaml", "v1_svd.yaml"});
  const Config c = config_of(m);
  EXPECT_EQ(c.mla->rope.strategy, "high");
  EXPECT_EQ(c.mla->rope.rope_pairs_per_head, 4);
  EXPECT_EQ(c.mla->latent.method, "split");
  EXPECT_EQ(c.mla->latent.latent_dims_per_kv_head, 8);
  EXPECT_EQ(c.tokens.global_batch_size, 16);
  EXPECT_EQ(c.checkpoints.checkpoint_interval, 1800);  // a tenth of all steps
  EXPECT_EQ(c.data_stages[0].data.seed, 1234);         // of its data class
  EXPECT_EQ(c.optimizer.learning_rate_scheduler.lr_decay_steps, 1800);
  EXPECT_TRUE(holds(m.lost, "the number of processes"));
  EXPECT_TRUE(holds(m.lost, "overwrite_output_dir true"));
  EXPECT_TRUE(holds(m.changed, "model.init_from is relative"));
  const Migration four =
      migrate({"v1_run.yaml", "v1_rope.yaml", "v1_svd.yaml"}, {"tokens.global_batch_size=64"});
  EXPECT_EQ(config_of(four).tokens.global_batch_size, 64);
  EXPECT_FALSE(holds(four.lost, "the number of processes"));
}

TEST(Migrate, SecondGeneration) {
  const Migration m = migrate({"v2.yml"});
  const Config c = config_of(m);
  EXPECT_EQ(c.mla->rope.strategy, "2-norm");
  EXPECT_EQ(c.mla->rope.rope_pairs_per_head, 4);  // of 8 dimensions
  EXPECT_EQ(c.mla->rope.score, "product");
  EXPECT_EQ(c.mla->latent.method, "joint");
  EXPECT_EQ(c.mla->latent.latent_dims_per_kv_head, 8);
  EXPECT_EQ(c.optimizer.weight_decay, 0);
  EXPECT_EQ(c.tokens.global_batch_size, 16 * 8);
  EXPECT_EQ(c.checkpoints.keep_last, 2);
  EXPECT_TRUE(holds(m.lost, "\"ddp_find_unused_parameters\" false: not a key that is known"));
  const std::string text = with(example("v2.yml"), "is_baseline: false", "is_baseline: true");
  EXPECT_FALSE(config_of(migrate({text})).mla.has_value());
}

// Each key, alone with another value, changes the configuration or is in one of the lists.
TEST(Migrate, NoKeyDisappears) {
  for (const MigrationRule& rule : migration_rules()) {
    std::string key(rule.theirs);
    for (size_t star; (star = key.find('*')) != std::string::npos;)
      key.replace(star, 1, star + 1 == key.size() ? "some_name" : "0");
    const bool is_nanotron = key.find('.') != std::string::npos && !key.starts_with("lr_sch");
    const std::string last = key.substr(key.rfind('.') + 1);
    const bool is_there = example("nanotron.yaml").find(" " + last + ":") != std::string::npos ||
                          example("v2.yml").find("\n" + last + ":") != std::string::npos;
    EXPECT_TRUE(find_migration_rule(key) != nullptr) << key;
    if (is_nanotron || is_there) continue;  // the examples have them
    const std::string value = key == "lr_scheduler_type" ? "rex" : "7";
    const std::string yaml = key.starts_with("lr_sch") && key.find('.') != std::string::npos
                                 ? "lr_scheduler_kwargs: {" + last + ": " + value + "}\n"
                                 : key + ": " + value + "\n";
    if (kShortRun.find(key + ":") != std::string::npos) continue;
    Migration before = migrate({kShortRun}), after;
    const auto refused = test_support::caught([&] { after = migrate({kShortRun + yaml}); });
    if (refused.code != core::ExitCode::kOk) {
      EXPECT_NE(refused.text.find("theirs.yaml:5:1: error: "), std::string::npos) << refused.text;
      continue;
    }
    const bool is_told =
        holds(after.changed, last) || holds(after.dropped, last) || holds(after.lost, last);
    EXPECT_TRUE(is_told) << key << "\n" << after.yaml;
  }
}

TEST(Migrate, EveryKeyOfTheExamplesIsNamedInTheResult) {
  static const std::regex key(R"((?:^|\n)[ -]*([a-z_0-9]+): *(?!null)[^ \n])");
  for (const Texts& files :
       {Texts{"nanotron.yaml"}, {"v1_run.yaml", "v1_rope.yaml", "v1_svd.yaml"}, {"v2.yml"}}) {
    const std::string result = migrate(files).yaml;
    for (const std::string& file : files) {
      const std::string text = example(file);
      for (std::sregex_iterator found(text.begin(), text.end(), key), end; found != end; ++found)
        EXPECT_NE(result.find((*found)[1]), std::string::npos) << file << " " << (*found)[1];
    }
  }
}

struct RopeCase {
  std::string keys, strategy;
  int64_t pairs;
};

TEST(Migrate, VersionsOfPartialRope) {
  const RopeCase cases[] = {
      {"partial_rope_version: 1\ntop_k_rope_dim: 4\n", "high", 4},
      {"partial_rope_version: 1\ntop_k_rope_dim: 0\n", "none", 0},
      {"partial_rope_version: high\ntop_k_rope_dim: 2\n", "high", 2},
      {"partial_rope_version: 3\ntop_k_rope_dim: 2\nlast_k_rope_dim: 2\n", "high-low", 4},
      {"partial_rope_version: 4\ntop_k_rope_dim: 8\nqk_tensor_path: x.pth\n", "2-norm", 8},
      {"partial_rope_version: 5\nlast_k_rope_dim: 4\n", "low", 4},
      {"partial_rope_version: 5\nlask_k_rope_dim: 4\n", "low", 4},
      {"RoPE: {partial_rope_version: 5, last_k_rope_dim: 4}\n", "low", 4},
      {"partial_rope_version: low\nrope_dim_for_mla: 8\n", "low", 4},
      {"rope_dim_for_mla: 16\n", "high", 8},
  };
  for (const RopeCase& each : cases) {
    const Config c = config_of(migrate({kShortRun + each.keys}));
    ASSERT_TRUE(c.mla.has_value()) << each.keys;
    EXPECT_EQ(c.mla->rope.strategy, each.strategy) << each.keys;
    EXPECT_EQ(c.mla->rope.rope_pairs_per_head, each.pairs) << each.keys;
    EXPECT_EQ(c.mla->latent.method, "none") << each.keys;
  }
  EXPECT_FALSE(config_of(migrate({kShortRun + "partial_rope_version: 0\n"})).mla.has_value());
  EXPECT_TRUE(holds(migrate({kShortRun + "partial_rope_version: 6\ntop_k_rope_dim: 4\n"}).lost,
                    "may differ between the heads"));
  EXPECT_TRUE(holds(
      migrate({kShortRun + "partial_rope_version: 3\ntop_k_rope_dim: 3\nlast_k_rope_dim: 1\n"})
          .lost,
      "3 high and 1 low pairs"));
}

TEST(Migrate, UniformNeedsTheWidthOfAHead) {
  const std::string keys = "partial_rope_version: 2\nuniform_start_point: 1\nuniform_step: 8\n";
  const auto refused = test_support::caught([&] { migrate({kShortRun + keys}); });
  EXPECT_EQ(refused.code, core::ExitCode::kBadConfig);
  EXPECT_NE(refused.text.find("mla.rope.rope_pairs_per_head"), std::string::npos) << refused.text;
  EXPECT_NE(refused.text.find("add key=value"), std::string::npos) << refused.text;
  const Config c = config_of(migrate({kShortRun + keys}, {"mla.rope.rope_pairs_per_head=4"}));
  EXPECT_EQ(c.mla->rope.rope_pairs_per_head, 4);
  EXPECT_EQ(c.mla->rope.uniform_start, 1);
  const std::string nanotron =
      with(example("nanotron.yaml"), "partial_rope_version: 4", "partial_rope_version: 2");
  EXPECT_EQ(config_of(migrate({nanotron})).mla->rope.rope_pairs_per_head, 4);  // 32 / 8
}

TEST(Migrate, MethodsWithoutAnEqualAreNamed) {
  const std::string kHigh = "partial_rope_version: 1\ntop_k_rope_dim: 4\n";
  for (const char* method : {"1", "3", "4", "5", "6"})
    EXPECT_TRUE(holds(migrate({kShortRun + kHigh + "method: " + method + "\nlow_rank: 8\n"}).lost,
                      std::string("method ") + method))
        << method;
  EXPECT_TRUE(holds(migrate({kShortRun + "svd_init_method: only_key\nrope_dim_for_mla: 8\n"}).lost,
                    "only_key"));
  test_support::expect_refusal(core::ExitCode::kBadConfig,
                               {"theirs.yaml:5:1", "method", "0 to 7", "8"},
                               [] { migrate({kShortRun + "method: 8\n"}); });
}

TEST(Migrate, DefaultsOfTheOtherProgramAreWrittenOut) {
  const Config hf = config_of(migrate({kShortRun}));
  EXPECT_EQ(hf.optimizer.optimizer_factory.adam_beta2, 0.999);
  EXPECT_EQ(hf.optimizer.weight_decay, 0);
  EXPECT_EQ(hf.tokens.micro_batch_size, 8);
  const LearningRateConfig& lr = hf.optimizer.learning_rate_scheduler;
  EXPECT_EQ(lr.learning_rate, 5e-5);
  EXPECT_EQ(lr.lr_decay_style, "linear");  // over all steps
  EXPECT_EQ(lr.lr_decay_steps, 1000);
  const Config warm = config_of(migrate({kShortRun + "warmup_ratio: 0.05\n"}));
  EXPECT_EQ(warm.optimizer.learning_rate_scheduler.lr_warmup_steps, 50);
  EXPECT_EQ(warm.optimizer.learning_rate_scheduler.lr_decay_steps, 950);
  std::string text = with(example("nanotron.yaml"), "    lr_decay_starting_step: 16200\n", "");
  text = with(text, "    lr_decay_steps: 1800\n", "");
  text = with(text, "    lr_decay_style: 1-sqrt\n", "");
  const LearningRateConfig nt = config_of(migrate({text})).optimizer.learning_rate_scheduler;
  EXPECT_EQ(nt.lr_decay_style, "linear");
  EXPECT_EQ(nt.lr_decay_starting_step, 900);
  EXPECT_EQ(nt.lr_decay_steps, 17100);
}

TEST(Migrate, WhatIsWrongIsToldWithItsPlace) {
  const auto refuse = [](const std::string& text, std::initializer_list<std::string> parts) {
    test_support::expect_refusal(core::ExitCode::kBadConfig, parts, [&] { migrate({text}); });
  };
  refuse(kShortRun + "adam_beta1: 2\n", {"theirs.yaml:5:1: error:", "adam_beta1", "[0, 1)"});
  refuse(with(kShortRun, "1000", "12k"), {"theirs.yaml:3:1: error: tokens.train_steps", "12k"});
  refuse(kShortRun + "rope_dim_for_mla: 7\n", {"theirs.yaml:5:1", "rope_dim_for_mla", "even"});
  refuse(kShortRun + "gradient_accumulation_steps: 0\n", {"theirs.yaml:5:1", "[1, 1000000000]"});
  refuse(kShortRun + "max_steps: 7\n", {"theirs.yaml:5:1", "duplicate key"});
  const auto injected =
      test_support::caught([] { migrate({kShortRun + "dataset_weights: [\"1\\nx: 2\"]\n"}); });
  EXPECT_NE(injected.text.find("theirs.yaml:5:1: error: data_stages.0.data.dataset.dataset_weights"
                               ".0: expected number"),
            std::string::npos)
      << injected.text;
  refuse("mla: {rope: {strategy: high}}\n", {"a configuration of another program", "ours"});
  refuse("[]\n", {"a mapping of keys"});
  test_support::expect_refusal(core::ExitCode::kBadConfig,
                               {"theirs.yaml:1:1", "max_steps", "each key once", "v1_run.yaml:2:1"},
                               [] {
                                 migrate({"v1_run.yaml", "max_steps: 5\n"});
                               });
  test_support::expect_refusal(core::ExitCode::kUsage, {"key=value", "tokns.x=1"},
                               [] { migrate({kShortRun}, {"tokns.x=1"}); });
  test_support::expect_refusal(core::ExitCode::kBadConfig, {"data_stages", "none of index 1"},
                               [] { migrate({kShortRun}, {"data_stages.2.name=x"}); });
  test_support::expect_refusal(core::ExitCode::kBadConfig, {"data_stages.1", "keys below it"},
                               [] { migrate({kShortRun}, {"data_stages.1=x"}); });
}

}  // namespace
}  // namespace trainer
