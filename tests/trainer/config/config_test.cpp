// The configuration: what is accepted, and the exact words in which the rest is refused.
#include "trainer/config/config.h"

#include <gtest/gtest.h>

#include "tests/trainer/config/config_case.h"
#include "trainer/config/scalars.h"

namespace trainer {
namespace {

using namespace config_case;

TEST(Config, DefaultsFillTheRest) {
  const Config c = parse(kMinimal);
  EXPECT_EQ(c.model.init_from, "/home/ann/model");
  EXPECT_EQ(c.model.dtype, "bfloat16");
  EXPECT_FALSE(c.mla.has_value());
  ASSERT_EQ(c.data_stages.size(), 1u);
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_folder,
            std::vector<std::string>{"/home/ann/a.ds"});
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_weights, std::vector<double>{1.0});
  EXPECT_EQ(c.optimizer.learning_rate_scheduler.lr_decay_starting_step, 0);  // no decay
  EXPECT_EQ(c.parallelism.threads_per_rank.count, 0);
  EXPECT_EQ(c.micro_batches(), 16);
}

TEST(Config, EverySectionOfTheContractIsRead) {
  const Config c = parse(R"(
general:     {project: smollm, run: 135m-2norm-r4-c16, seed: 42, output_dir: runs}
model:       {init_from: path/to/hf_folder, dtype: bfloat16, trainable: all}
mla:
  rope:        {strategy: 2-norm, rope_pairs_per_head: 4, score: product, uniform_start: 0}
  latent:      {method: joint, latent_dims_per_kv_head: 16}
  calibration: {windows: 1024, data: null}
data_stages: [{name: main, start_training_step: 1, data: {seed: 42, dataset: {dataset_folder: [a, b], dataset_weights: [0.7, 0.3]}}}]
validation:  {sets: {prose: path.ds, code: path.ds}, windows_per_set: 50}
tokens:      {sequence_length: 2048, micro_batch_size: 4, global_batch_size: 64, train_steps: 12000, val_check_interval: 500}
optimizer:   {weight_decay: 0.01, clip_grad: 1.0, zero_stage: 0, optimizer_factory: {name: adamW, adam_beta1: 0.9, adam_beta2: 0.95, adam_eps: 1.0e-8},
              learning_rate_scheduler: {learning_rate: 1.0e-4, lr_warmup_steps: 1200, lr_decay_style: 1-sqrt, lr_decay_starting_step: 10000, lr_decay_steps: 2000, min_decay_lr: 0}}
parallelism: {threads_per_rank: auto, recompute: none, reduction_shards: 4}
checkpoints: {checkpoint_interval: 500, keep_last: 3, keep_every: 0, on_nan: rollback, max_skipped_steps: 5, rollback_skip_steps: 10, on_spike: warn, spike_z_score: 5.5, replica_check_interval: 50}
logging:     {iteration_step_info_interval: 10}
)");
  ASSERT_TRUE(c.mla.has_value());
  EXPECT_EQ(c.mla->rope.rope_pairs_per_head, 4);
  EXPECT_EQ(c.mla->latent.latent_dims_per_kv_head, 16);
  EXPECT_EQ(c.optimizer.learning_rate_scheduler.lr_decay_steps, 2000);
  EXPECT_EQ(c.optimizer.optimizer_factory.adam_eps, 1e-8);
  const NamedPaths sets = {{"prose", "/home/ann/path.ds"}, {"code", "/home/ann/path.ds"}};
  EXPECT_EQ(c.validation.sets, sets);
  EXPECT_TRUE(config_warnings(c).empty());
}

TEST(Config, TinyYamlTrainsAbout600000Tokens) {
  const Config c = load_config(MHA2MLA_SOURCE_DIR "/configs/tiny.yaml");
  EXPECT_EQ(c.tokens.sequence_length * c.tokens.global_batch_size * c.tokens.train_steps, 598016);
  EXPECT_EQ(c.model.init_from, MHA2MLA_SOURCE_DIR "/examples/tiny-llama");
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_folder[0],
            MHA2MLA_SOURCE_DIR "/runs/corpus/prose.train.ds");
  EXPECT_EQ(c.general.output_dir, (fs::current_path() / "runs").string());
  EXPECT_TRUE(config_warnings(c).empty());
}

TEST(Config, AllErrorsAtOnceInOrderWithTheirPlaces) {
  const std::string text =
      "model:\n"
      "  init_from: model\n"
      "optimizer:\n"
      "  learning_rate: 1e-4\n"
      "tokens:\n"
      "  per_device_train_batch_size: 4\n"
      "  train_steps: 12k\n"
      "data_stages: [{data: {dataset: {dataset_folder: a.ds}}}]\n";
  EXPECT_EQ(refusal(text),
            "/home/ann/tiny.yaml:4:3: error: optimizer.learning_rate: expected a key of "
            "'optimizer' (weight_decay, clip_grad, zero_stage, optimizer_factory, "
            "learning_rate_scheduler), got unknown key \"learning_rate\"; did you mean "
            "'optimizer.learning_rate_scheduler.learning_rate'?\n"
            "/home/ann/tiny.yaml:6:3: error: tokens.per_device_train_batch_size: expected a key "
            "of 'tokens' (sequence_length, micro_batch_size, global_batch_size, train_steps, "
            "val_check_interval), got unknown key \"per_device_train_batch_size\"; use "
            "'tokens.micro_batch_size' (Hugging Face calls it 'per_device_train_batch_size')\n"
            "/home/ann/tiny.yaml:7:16: error: tokens.train_steps: expected integer > 0, got "
            "\"12k\"; write plain decimal digits, without unit, point or exponent\n"
            "3 errors; nothing was started.");
}

TEST(Config, AMisspeltRequiredKeyIsOneError) {
  std::string text = kMinimal;
  text.replace(text.find("train_steps"), std::string("train_steps").size(), "train_stepz");
  EXPECT_CONTAINS(refusal(text), "did you mean 'tokens.train_steps'?");
  EXPECT_EQ(refusal(text).find('\n'), std::string::npos);
}

TEST(Config, UnknownKeysGetTheNearestOne) {
  EXPECT_CONTAINS(override_refusal("tokens.trian_steps=3"), "did you mean 'tokens.train_steps'?");
  EXPECT_CONTAINS(override_refusal("optimizer.learing_rate=3"),
                  "did you mean 'optimizer.learning_rate_scheduler.learning_rate'?");
  EXPECT_CONTAINS(override_refusal("tokenz.train_steps=3"), "did you mean 'tokens'?");
  EXPECT_CONTAINS(override_refusal("qqq=3"), "config --defaults");
  EXPECT_CONTAINS(override_refusal("tokens.batch_accumulation_per_replica=3"),
                  "set tokens.global_batch_size =");
  EXPECT_CONTAINS(override_refusal("parallelism.dp=4"), "set tokens.global_batch_size =");
  EXPECT_CONTAINS(override_refusal("mla.rope_dim=16"), "pairs, half the number of dimensions");
  EXPECT_CONTAINS(override_refusal("mla.rope.statistics=x"), "unknown key");
}

TEST(Config, KeysOfNanotronWithNeutralValuesAreAccepted) {
  for (const char* key : {"tp", "pp", "expert_parallel_size"}) {
    const std::string name = std::string("parallelism.") + key;
    EXPECT_EQ(override_refusal(name + "=1"), "") << key;
    EXPECT_CONTAINS(override_refusal(name + "=2"), name + ": expected 1, got 2; ");
  }
}

TEST(Config, OverridesWinOverTheFileAndTheFileOverDefaults) {
  const std::string text = kMinimal + "parallelism: {recompute: block}\n";
  EXPECT_EQ(parse(text).parallelism.recompute, "block");
  const Config c = parse(
      text, {"parallelism.recompute=attention", "tokens.train_steps=7", "tokens.train_steps=8",
             "mla.rope.rope_pairs_per_head=2", "mla.latent.latent_dims_per_kv_head=8",
             "general.run=123", "data_stages.0.data.dataset.dataset_folder=[/x/a.ds, /x/b.ds]",
             "data_stages.0.data.dataset.dataset_weights=[1, 3.5]"});
  EXPECT_EQ(c.parallelism.recompute, "attention");
  EXPECT_EQ(c.tokens.train_steps, 8);
  EXPECT_EQ(c.mla->rope.strategy, "2-norm");
  EXPECT_EQ(c.general.run, "123");
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_folder[1], "/x/b.ds");
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_weights[1], 3.5);
}

TEST(Config, AnOverrideMayRepairTheFile) {
  EXPECT_EQ(refusal(kMinimal + "logging: {iteration_step_info_interval: x}\n",
                    {"logging.iteration_step_info_interval=5"}),
            "");
}

TEST(Config, PathsOfTheFileAreRelativeToItAndOthersToTheWorkingDirectory) {
  const fs::path here = fs::current_path();
  const Config c = parse(kMinimal, {"validation.sets.code=v/../code.ds", "model.init_from=m/"});
  EXPECT_EQ(c.validation.sets[0].second, (here / "code.ds").string());
  EXPECT_EQ(c.model.init_from, (here / "m").string());
  EXPECT_EQ(c.data_stages[0].data.dataset.dataset_folder[0], "/home/ann/a.ds");
  EXPECT_EQ(c.general.output_dir, (here / "runs").string());
  EXPECT_EQ(parse(kMinimal + "general: {output_dir: out}\n").general.output_dir,
            (here / "out").string());
}

TEST(Config, OverrideErrorsNameTheOverride) {
  EXPECT_EQ(override_refusal("tokens.train_steps=12k"),
            "override tokens.train_steps=12k: error: tokens.train_steps: expected integer > 0, "
            "got \"12k\"; write plain decimal digits, without unit, point or exponent");
  EXPECT_CONTAINS(override_refusal("tokens.train_steps"), "expected key=value");
  EXPECT_CONTAINS(override_refusal("=3"), "expected key=value");
  EXPECT_CONTAINS(override_refusal("data_stages.1.name=x"), "a path that leads nowhere");
  EXPECT_CONTAINS(override_refusal("tokens..x=1"), "a path that leads nowhere");
  EXPECT_CONTAINS(override_refusal("tokens.train_steps=[1"), "expected valid YAML");
}

TEST(Config, NullMeansDefault) {
  EXPECT_EQ(parse(kMinimal + "mla: null\nlogging:\n"), parse(kMinimal));
  EXPECT_EQ(parse(kMinimal, {"mla=null", "general.seed=null"}), parse(kMinimal));
}

TEST(Config, IntegersAreNeverCoerced) {
  for (const char* value : {"1.5", "1e3", "010", "0x10", "1_000", "2k", "\"12\"", "yes", "true",
                            "+5", "-4", "0", "[1]", "{a: 1}", "99999999999999999999", "1 2"}) {
    const std::string text = override_refusal(std::string("tokens.train_steps=") + value);
    EXPECT_CONTAINS(text, "tokens.train_steps: expected integer > 0, got ");
  }
  EXPECT_CONTAINS(override_refusal("tokens.train_steps=\"12\""), "without quotes");
  EXPECT_CONTAINS(override_refusal("tokens.train_steps=~"), "write null");
  EXPECT_CONTAINS(override_refusal("tokens.global_batch_size=1000000000000"),
                  "expected integer <= 16777216, got 1000000000000");
}

TEST(Config, NumbersHaveRanges) {
  const std::string rate = "optimizer.learning_rate_scheduler.learning_rate";
  for (const char* value : {".inf", ".nan", "-1", "0", "10", "1e-3s", "1e999", "inf", "\"1e-4\""})
    EXPECT_CONTAINS(override_refusal(rate + "=" + value),
                    rate + ": expected number in (0, 1], got");
  for (const char* value : {"1", "1.0e-4", "1e-4", "0.0003"})
    EXPECT_EQ(override_refusal(rate + "=" + value), "");
  for (const char* bad :
       {"weight_decay=5", "optimizer_factory.adam_beta1=1.0", "optimizer_factory.adam_beta1=[0.9]",
        "optimizer_factory.adam_beta2=-0.1", "optimizer_factory.adam_eps=0", "clip_grad=-1"})
    EXPECT_CONTAINS(override_refusal(std::string("optimizer.") + bad), "expected number ") << bad;
}

TEST(Config, WordsAreNotText) {
  for (const char* value : {"yes", "No", "on", "OFF", "true", "12", "1e5", ".inf", "0x10"})
    EXPECT_CONTAINS(refusal(kMinimal + "general: {run: " + value + "}\n"), "quote it if it is")
        << value;
  EXPECT_EQ(parse(kMinimal + "general: {run: \"no\"}\n").general.run, "no");
}

TEST(Config, ChoicesAreListed) {
  EXPECT_CONTAINS(
      override_refusal("optimizer.learning_rate_scheduler.lr_decay_style=cosin"),
      "expected one of 1-sqrt | cosine | linear, got \"cosin\"; did you mean 'cosine'?");
  EXPECT_CONTAINS(override_refusal("mla.rope.score=max"), "expected one of product | sum");
  EXPECT_CONTAINS(override_refusal("optimizer.zero_stage=2"),
                  "optimizer.zero_stage: expected one of 0 | 1, got 2; other values are not "
                  "supported");
  EXPECT_CONTAINS(override_refusal("checkpoints.on_nan=skp"),
                  "expected one of stop | skip | rollback, got \"skp\"; did you mean 'skip'?");
  EXPECT_CONTAINS(override_refusal("checkpoints.on_spike=on"),
                  "expected one of off | warn | skip | rollback | stop, got \"on\"");
  EXPECT_CONTAINS(override_refusal("model.dtype=float16"), "float32 | bfloat16");
}

TEST(Config, GuardsAreOffByDefaultAndWarnWhenTheyAreNotUsed) {
  const Config c = parse(kMinimal);
  EXPECT_EQ(c.checkpoints.on_nan, "stop");
  EXPECT_EQ(c.checkpoints.on_spike, "off");
  EXPECT_EQ(c.checkpoints.replica_check_interval, 100);
  EXPECT_TRUE(config_warnings(c).empty());
  const std::vector<std::string> numbers = {"checkpoints.max_skipped_steps=2",
                                            "checkpoints.rollback_skip_steps=3",
                                            "checkpoints.spike_z_score=4"};
  EXPECT_EQ(config_warnings(parse(kMinimal, numbers)).size(), 3u);
  std::vector<std::string> used = numbers;
  used.insert(used.end(), {"checkpoints.on_nan=rollback", "checkpoints.on_spike=skip"});
  const Config with = parse(kMinimal, used);
  EXPECT_TRUE(config_warnings(with).empty());
  EXPECT_EQ(parse_config(dump_resolved(with), "/elsewhere/c.yaml"), with);
  EXPECT_TRUE(incompatible_changes(c, with).empty());
  EXPECT_EQ(reported_changes(c, with).size(), 5u);
  EXPECT_CONTAINS(override_refusal("checkpoints.spike_z_score=0"), "number in (0, ");
  EXPECT_CONTAINS(override_refusal("checkpoints.max_skipped_steps=0"), "integer > 0");
}

TEST(Config, PathsAreNotExpanded) {
  for (const char* value : {"~/m", "$HOME/m", "${env:HOME}", "a/$X"})
    EXPECT_CONTAINS(refusal(kMinimal, {std::string("model.init_from=\"") + value + "\""}),
                    "~ and $VAR are not expanded");
  EXPECT_CONTAINS(override_refusal("model.init_from=\"a\\nb\""), "expected a path on one line");
  EXPECT_CONTAINS(override_refusal("model.init_from=" + std::string(5000, 'a')),
                  "at most 4095 bytes");
  EXPECT_CONTAINS(override_refusal("model.init_from=\"\""), "expected a path, got \"\"");
}

TEST(Config, RequiredKeys) {
  const std::string text = refusal("general: {run: x}\n");
  EXPECT_CONTAINS(text, "model.init_from: expected the path of a model, got nothing");
  EXPECT_CONTAINS(text, "data_stages: expected at least one stage, got none");
  EXPECT_CONTAINS(text, "tokens.train_steps: expected integer > 0, got nothing");
  EXPECT_CONTAINS(text, "3 errors; nothing was started.");
}

TEST(Config, BatchesAndReductionShardsFit) {
  EXPECT_CONTAINS(override_refusal("tokens.global_batch_size=10"),
                  "expected a multiple of micro_batch_size 4, got 10; the nearest are 8 and 12");
  EXPECT_CONTAINS(override_refusal("tokens.global_batch_size=2"), "the nearest is 4");
  EXPECT_CONTAINS(override_refusal("parallelism.reduction_shards=3"),
                  "a power of two, got 3; use 2");
  EXPECT_CONTAINS(override_refusal("parallelism.reduction_shards=32"),
                  "expected at most 16, the micro-batches of an update, got 32; use 16 or raise");
  // The default gives way, an explicit value does not.
  EXPECT_EQ(parse(kMinimal, {"tokens.global_batch_size=12"}).parallelism.reduction_shards, 2);
  EXPECT_EQ(parse(kMinimal, {"tokens.global_batch_size=4"}).parallelism.reduction_shards, 1);
  EXPECT_CONTAINS(
      refusal(kMinimal, {"tokens.global_batch_size=12", "parallelism.reduction_shards=4"}),
      "at most 3");
  // A value refused by itself causes no second error.
  EXPECT_EQ(override_refusal("tokens.micro_batch_size=0").find('\n'), std::string::npos);
}

TEST(Config, TokensAreCountedIn64Bits) {
  const std::string text =
      refusal(kMinimal, {"tokens.train_steps=1000000000", "tokens.global_batch_size=1048576",
                         "tokens.sequence_length=1048576"});
  EXPECT_CONTAINS(text,
                  "tokens.train_steps: expected at most 256 steps of 1048576 x 1048576 tokens");
}

TEST(Config, ScheduleFitsTheRun) {
  const std::string prefix = "optimizer.learning_rate_scheduler.";
  EXPECT_CONTAINS(override_refusal(prefix + "lr_warmup_steps=101"),
                  "expected at most tokens.train_steps = 100, got 101");
  EXPECT_CONTAINS(refusal(kMinimal, {prefix + "lr_warmup_steps=50", prefix + "lr_decay_steps=60"}),
                  "expected at least lr_warmup_steps = 50, got 40");
  EXPECT_CONTAINS(override_refusal(prefix + "min_decay_lr=0.1"),
                  "expected at most learning_rate = 0.0001, got 0.1");
  const Config late =
      parse(kMinimal, {prefix + "lr_decay_steps=60", prefix + "lr_decay_starting_step=90"});
  EXPECT_EQ(
      config_warnings(late),
      std::vector<std::string>{"the learning rate decay ends at step 150, after the last of 100"});
}

TEST(Config, StagesAscendAndMixturesAddUp) {
  const auto stages = [](const std::string& list) {
    return refusal("model: {init_from: m}\ntokens: {train_steps: 9}\ndata_stages:\n" + list);
  };
  const std::string data = "data: {dataset: {dataset_folder: a}}}\n";
  EXPECT_CONTAINS(stages("- {start_training_step: 2, " + data), "expected 1 for the first stage");
  EXPECT_CONTAINS(stages("- {" + data + "- {name: b, start_training_step: 1, " + data),
                  "tiny.yaml:5:34: error: data_stages.1.start_training_step: expected a step after "
                  "1, the start of the stage before, got 1");
  EXPECT_CONTAINS(stages("- {" + data + "- {start_training_step: 5, " + data),
                  "a name of its own, got \"main\"");
  const std::string two = "data_stages.0.data.dataset.dataset_folder=[a, b]";
  const std::string weights = "data_stages.0.data.dataset.dataset_weights=";
  EXPECT_CONTAINS(refusal(kMinimal, {two}), "expected 2 weights, one per shard, got 0");
  EXPECT_CONTAINS(refusal(kMinimal, {two, weights + "[1]"}), "got 1");
  EXPECT_CONTAINS(refusal(kMinimal, {two, weights + "[0, 0]"}), "expected a sum > 0, got 0");
  EXPECT_CONTAINS(refusal(kMinimal, {two, weights + "[1, -1]"}), "dataset_weights.1: expected");
  EXPECT_EQ(refusal(kMinimal, {two, weights + "[0, 2]"}), "");
}

TEST(Config, ConversionIsComplete) {
  const std::string text = refusal(kMinimal + "mla: {}\n");
  EXPECT_CONTAINS(text, "mla.rope.rope_pairs_per_head: expected integer > 0, got 0");
  EXPECT_CONTAINS(text, "mla.latent.latent_dims_per_kv_head: expected integer > 0, got 0");
  EXPECT_EQ(refusal(kMinimal + "mla: {rope: {strategy: none}, latent: {method: none}}\n"), "");
  EXPECT_CONTAINS(refusal(kMinimal + "mla: {rope: {strategy: full}, latent: {method: split, "
                                     "latent_dims_per_kv_head: 4}}\n"),
                  "mla.latent.method: expected joint or none");
  EXPECT_CONTAINS(override_refusal("mla.calibration.windows=0"), "expected integer > 0");
  const Config unused = parse(kMinimal +
                              "mla: {rope: {strategy: full, rope_pairs_per_head: 4}, "
                              "latent: {latent_dims_per_kv_head: 4}}\n");
  EXPECT_EQ(config_warnings(unused).size(), 1u);
}

TEST(Config, NamesAndPlaces) {
  EXPECT_CONTAINS(override_refusal("general.run=a/b"), "expected a folder name, got \"a/b\"");
  EXPECT_CONTAINS(override_refusal("general.project=.."), "expected a folder name");
  EXPECT_CONTAINS(refusal(kMinimal + "general: {output_dir: /home/ann/model/runs}\n"),
                  "expected a folder outside the model");
  EXPECT_CONTAINS(refusal(kMinimal + "validation: {sets: {a/b: x.ds}}\n"), "becomes the metric");
  EXPECT_CONTAINS(refusal(kMinimal + "validation: {sets: {mean_nll: x.ds}}\n"), "another name");
  EXPECT_CONTAINS(refusal(kMinimal + "validation: {sets: {\"a\\nb\": x.ds}}\n"), "got \"a\\x0ab\"");
}

TEST(Config, TimesCarryTheirUnit) {
  for (const auto& [text, seconds] : {std::pair{"45s", 45.0}, std::pair{"90m", 5400.0},
                                      std::pair{"11.5h", 41400.0}, std::pair{"2d", 172800.0}}) {
    EXPECT_EQ(parse(kMinimal, {std::string("general.max_time=") + text}).general.max_time, text);
    EXPECT_EQ(parse_duration(text), seconds);
  }
  EXPECT_EQ(parse(kMinimal).general.max_time, "");
  for (const char* text : {"h", "1w", "1 h", "h1", "0s", "-5m", "0x1s", "1e9d", "1h30m", "infs"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
    EXPECT_CONTAINS(override_refusal(std::string("general.max_time=") + text),
                    "general.max_time: expected a time above 0 with its unit");
  }
  EXPECT_CONTAINS(override_refusal("general.max_time=90"), "general.max_time");
  EXPECT_CONTAINS(override_refusal("general.max_time=\"90\""),
                  "expected a time above 0 with its unit, such as 45s, 90m, 11.5h or 2d, got "
                  "\"90\"");
}

TEST(Config, TheWatchdogCanBeSetPerPhase) {
  const Config c = parse(kMinimal, {"watchdog.step_seconds=30", "watchdog.setup_seconds=0"});
  EXPECT_EQ(c.watchdog.step_seconds, 30);
  EXPECT_EQ(c.watchdog.setup_seconds, 0);
  EXPECT_EQ(c.watchdog.checkpoint_seconds, 1800);
  EXPECT_TRUE(incompatible_changes(parse(kMinimal), c).empty());
  EXPECT_TRUE(reported_changes(parse(kMinimal), c).empty());
  EXPECT_CONTAINS(override_refusal("watchdog.step_seconds=-1"), "integer >= 0");
}

}  // namespace
}  // namespace trainer
