// From the file of a sweep to its trials: products, pairs, exclusions, budgets, ids, and the words
// in which the rest is refused.
#include "trainer/sweep/plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/sweep/config.h"

namespace trainer {
namespace {

const std::string kBase = R"(
general: {project: tiny, run: base, output_dir: /runs, max_time: 2h}
model: {init_from: model}
mla:
  rope: {strategy: 2-norm, rope_pairs_per_head: 2}
  latent: {method: joint, latent_dims_per_kv_head: 8}
data_stages: [{data: {dataset: {dataset_folder: a.ds}}}]
tokens: {train_steps: 100, global_batch_size: 16, sequence_length: 256}
)";

// 2 kv heads of width 32: 64 numbers each per token and layer.
model::ModelSpec spec(const std::string&) {
  model::LlamaConfig config;
  config.vocab_size = 64;
  config.hidden_size = config.intermediate_size = 128;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 256;
  return model::ModelSpec::unconverted(config);
}

class Sweep : public testing::Test {
 protected:
  SweepPlan plan(const std::string& keys, const std::vector<std::string>& overrides = {},
                 const std::string& base = kBase) {
    folder_.write("configs/base.yaml", base);
    const auto file =
        folder_.write("configs/sweeps/strategies.yaml", "base: ../base.yaml\nsweep:\n" + keys);
    return plan_sweep(load_sweep(file), overrides, spec);
  }

  void expect_refused(const std::string& keys, std::initializer_list<std::string> parts) {
    test_support::expect_refusal(core::ExitCode::kBadConfig, parts, [&] { plan(keys); });
  }

  test_support::TemporaryFolder folder_;
};

std::vector<std::string> texts(const SweepPlan& plan) {
  std::vector<std::string> ids;
  for (const Trial& trial : plan.trials) ids.push_back(trial.id.substr(0, trial.id.size() - 7));
  return ids;
}

using Texts = std::vector<std::string>;

TEST_F(Sweep, GridIsTheProductWithTheLastKeyFastest) {
  const SweepPlan p =
      plan("  grid: {mla.rope.strategy: [high, 2-norm], mla.latent.method: [joint, split]}\n");
  EXPECT_EQ(texts(p), (Texts{"rope=high,method=joint", "rope=high,method=split",
                             "rope=2-norm,method=joint", "rope=2-norm,method=split"}));
  EXPECT_EQ(p.trials[1].config.mla->rope.strategy, "high");
  EXPECT_EQ(p.trials[1].config.mla->latent.method, "split");
  EXPECT_EQ(p.trials[1].config.tokens.train_steps, 100);
  EXPECT_EQ(p.trials[0].tokens(), 100 * 16 * 256);
}

TEST_F(Sweep, ATrialHasAFolderOfItsOwnBelowTheSweep) {
  const SweepPlan p = plan("  grid: {mla.rope.strategy: [high, low]}\n");
  EXPECT_EQ(p.folder, "/runs/tiny/strategies");
  const GeneralConfig& general = p.trials[0].config.general;
  EXPECT_EQ(general.output_dir, "/runs/tiny");
  EXPECT_EQ(general.project, "strategies");
  EXPECT_EQ(general.run, p.trials[0].id);
  EXPECT_EQ(p.max_time, "2h");
  EXPECT_EQ(general.max_time, "");
}

TEST_F(Sweep, ZipTakesValuesTogether) {
  const SweepPlan p = plan(
      "  grid: {mla.rope.strategy: [high, low]}\n"
      "  zip: [{mla.rope.rope_pairs_per_head: [2, 4], mla.latent.latent_dims_per_kv_head: [8, "
      "4]}]\n");
  EXPECT_EQ(texts(p), (Texts{"rope=high,r=2,c=8", "rope=high,r=4,c=4", "rope=low,r=2,c=8",
                             "rope=low,r=4,c=4"}));
}

TEST_F(Sweep, ExcludeTakesOutWhatHasAllOfIt) {
  const SweepPlan p = plan(
      "  grid: {mla.rope.strategy: [high, low], mla.latent.method: [joint, split]}\n"
      "  exclude: [{mla.rope.strategy: high, mla.latent.method: split}, "
      "{mla.rope.strategy: low, mla.latent.method: joint}]\n");
  EXPECT_EQ(texts(p), (Texts{"rope=high,method=joint", "rope=low,method=split"}));
}

TEST_F(Sweep, SetAndOverridesAreOfEveryTrial) {
  const SweepPlan p = plan(
      "  set: {tokens.train_steps: 7, model.init_from: ../other}\n"
      "  grid: {mla.rope.strategy: [high, low]}\n",
      {"tokens.micro_batch_size=2"});
  for (const Trial& trial : p.trials) {
    EXPECT_EQ(trial.config.tokens.train_steps, 7);
    EXPECT_EQ(trial.config.tokens.micro_batch_size, 2);
    EXPECT_EQ(trial.config.model.init_from, folder_ / "configs/other") << "relative to the sweep";
  }
}

TEST_F(Sweep, BudgetFitsTheLatentToThePairs) {
  const SweepPlan p = plan(
      "  grid: {mla.rope.rope_pairs_per_head: [1, 2, 4], mla.latent.method: [joint, split]}\n"
      "  budget: {cache_ratio: 0.1875}\n");
  std::vector<int64_t> latents;
  for (const Trial& trial : p.trials) {
    latents.push_back(trial.config.mla->latent.latent_dims_per_kv_head);
    EXPECT_EQ(trial.cache_before, 3 * 2 * 64);
    EXPECT_EQ(trial.cache_after, 3 * 2 * 12) << trial.id;
  }
  EXPECT_EQ(latents, (std::vector<int64_t>{10, 5, 8, 4, 4, 2}));
}

TEST_F(Sweep, BudgetFitsThePairsToASweptLatent) {
  const SweepPlan p = plan(
      "  grid: {mla.latent.latent_dims_per_kv_head: [4, 8]}\n"
      "  budget: {cache_ratio: [0.1875, 0.25]}\n");
  EXPECT_EQ(texts(p),
            (Texts{"c=4,cache=0.1875", "c=4,cache=0.25", "c=8,cache=0.1875", "c=8,cache=0.25"}));
  std::vector<int64_t> pairs;
  for (const Trial& t : p.trials) pairs.push_back(t.config.mla->rope.rope_pairs_per_head);
  EXPECT_EQ(pairs, (std::vector<int64_t>{4, 6, 2, 4}));
}

TEST_F(Sweep, ABudgetThatNoWholeNumberMeetsIsRefused) {
  expect_refused("  grid: {mla.latent.method: [split]}\n  budget: {cache_ratio: 0.203125}\n",
                 {"cache_ratio: 0.203125", "13 numbers", "2 r + 2 c", "r = 2", "leaves 9 for 2 c"});
  expect_refused("  grid: {mla.rope.rope_pairs_per_head: [6]}\n  budget: {cache_ratio: 0.1875}\n",
                 {"r = 6", "leaves 0 for c"});
  expect_refused("  grid: {mla.latent.method: [none]}\n  budget: {cache_ratio: 0.1875}\n",
                 {"expected a conversion with a latent", "mla.latent.method none"});
  expect_refused("  budget: {cache_ratio: 0.2}\n", {"a multiple of 1/64", "12.8 numbers"});
  expect_refused("  budget: {cache_ratio: 1.5}\n", {"a number in (0, 1]", "\"1.5\""});
}

TEST_F(Sweep, BaselineIsOneForEachWayOfFineTuning) {
  const SweepPlan one = plan("  grid: {mla.rope.strategy: [high, low]}\n  baseline: true\n");
  EXPECT_EQ(texts(one), (Texts{"baseline", "rope=high", "rope=low"}));
  EXPECT_TRUE(one.trials[0].baseline);
  EXPECT_FALSE(one.trials[0].config.mla.has_value());
  EXPECT_EQ(one.trials[0].cache_after, one.trials[0].cache_before);
  const SweepPlan two = plan(
      "  grid: {optimizer.learning_rate_scheduler.learning_rate: [1.0e-3, 1.0e-4], "
      "mla.rope.strategy: [high, low]}\n  baseline: true\n");
  EXPECT_EQ(texts(two)[0], "baseline,learning_rate=1.0e-3");
  EXPECT_EQ(texts(two)[1], "baseline,learning_rate=1.0e-4");
  EXPECT_EQ(two.trials.size(), 6u);
}

TEST_F(Sweep, IdsHashWhatDecidesTheNumbersAndNothingElse) {
  const std::string grid = "  grid: {mla.rope.strategy: [high]}\n";
  const std::string id = plan(grid).trials[0].id;
  EXPECT_EQ(id.size(), std::string("rope=high-123456").size());
  EXPECT_EQ(
      plan(grid, {"general.output_dir=/elsewhere", "tokens.val_check_interval=3"}).trials[0].id,
      id);
  EXPECT_NE(plan(grid, {"tokens.train_steps=101"}).trials[0].id, id);
  EXPECT_NE(plan(grid, {"general.seed=43"}).trials[0].id, id);
}

TEST_F(Sweep, TrialsThatAreTheSameAreRefused) {
  test_support::expect_refusal(
      core::ExitCode::kBadConfig, {"trials that differ", "rope=high and rope=low"},
      [&] { plan("  grid: {mla.rope.strategy: [high, low]}\n", {"mla.rope.strategy=high"}); });
  expect_refused("  grid: {mla.rope.strategy: [high, high]}\n", {":3:", "each value once"});
  expect_refused("  set: {mla.rope.strategy: low}\n  grid: {mla.rope.strategy: [high]}\n",
                 {"each key once", "got it again"});
}

TEST_F(Sweep, WrongKeysAndValuesAreToldWithTheirPlace) {
  expect_refused("  gird: {mla.rope.strategy: [high]}\n  budget: {cache_ratio: 0.1875}\n",
                 {"strategies.yaml:3:3", "unknown key \"gird\"", "did you mean 'sweep.grid'?"});
  expect_refused("  grid: {mla.rope.strategy: [high, 2-nrm]}\n",
                 {"strategies.yaml:3:36", "mla.rope.strategy", "did you mean '2-norm'?"});
  expect_refused("  grid: {mla.rope.stratgy: [high]}\n",
                 {"strategies.yaml:3:29", "did you mean 'mla.rope.strategy'?"});
  expect_refused("  grid: {mla.rope.strategy: high}\n", {"a list of values", "write [a, b]"});
  expect_refused("  grid: {general.run: [a, b]}\n", {"names or places a run"});
  expect_refused("  baseline: true\n", {"nothing to vary"});
  expect_refused("  zip: [{mla.rope.strategy: [high, low], mla.latent.method: [joint]}]\n",
                 {"as many values as mla.rope.strategy has, 2"});
  expect_refused("  grid: {mla.rope.strategy: [high]}\n  exclude: [{mla.rope.strategy: hgih}]\n",
                 {":4:", "got \"hgih\"", "did you mean 'high'?"});
  expect_refused("  grid: {mla.rope.strategy: [high]}\n  ranks_per_trial: 0\n",
                 {"sweep.ranks_per_trial", "integer in [1, 65536]"});
}

// "K0: [V], K1: [V], ..." or, for lists, "V0, V1, ...".
std::string joined(int count, const std::string& format) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += (i > 0 ? ", " : "") + fmt::format(fmt::runtime(format), i);
  return text;
}

TEST_F(Sweep, ProductsThatAreTooLargeAreRefused) {
  const std::string hundred = "[" + joined(100, "{}") + "]";
  const std::string all = "a: " + hundred + ", b: " + hundred;
  expect_refused("  grid: {" + all + ", c: [1, 2]}\n", {"at most 10000 trials", "got more"});
  expect_refused("  grid: {" + joined(65, "k{}: [1]") + "}\n",
                 {"at most 64 keys that vary", "got 65"});
  expect_refused("  zip: [{" + joined(65, "k{}: [1]") + "}]\n",
                 {"at most 64 keys that vary", "got 65"});
  expect_refused("  set: {" + joined(257, "k{}: 1") + "}\n  grid: {mla.rope.strategy: [high]}\n",
                 {"at most 256 keys in set", "got 257"});
  expect_refused("  set: {" + joined(9, "k{}: 1") + "}\n  grid: {" + all + "}\n",
                 {"at most 100000 settings of all trials", "got 10000 trials of 11"});
  test_support::expect_refusal(
      core::ExitCode::kBadConfig, {"base.yaml: error: size: ", "at most 6710 bytes for 10000"},
      [&] { plan("  grid: {" + all + "}\n", {}, kBase + "#" + std::string(7000, 'x') + "\n"); });
}

TEST_F(Sweep, AHundredErrorsAreEnough) {
  const auto error = test_support::caught(
      [&] { plan("  grid: {mla.rope.strategy: [" + joined(300, "s{}") + "]}\n"); });
  EXPECT_EQ(error.code, core::ExitCode::kBadConfig);
  EXPECT_EQ(std::count(error.text.begin(), error.text.end(), '\n'), 100);
  EXPECT_TRUE(error.text.ends_with("\nthe first 100 errors; nothing was started."));
}

TEST_F(Sweep, LongTextsAndListsAreNotRepeated) {
  const std::string grid = "  grid: {mla.rope.strategy: [" + joined(20, "s{}") + "]}\n";
  expect_refused(grid + "  exclude: [{mla.rope.strategy: s20}]\n",
                 {"one of s0, s1, ", "s15 and 4 more, got \"s20\"; did you mean 's0'?"});
  expect_refused("  grid: {mla.rope.strategy: [" + std::string(1025, 'x') + "]}\n",
                 {"sweep.grid.mla.rope.strategy", "at most 1024 characters"});
  expect_refused("  budget: {cache_ratio: 0." + std::string(1024, '1') + "}\n",
                 {"a number in (0, 1]"});
}

TEST_F(Sweep, SelectsBySettingAndShard) {
  const SweepPlan p = plan(
      "  grid: {mla.rope.strategy: [high, low], mla.latent.method: [joint, split]}\n"
      "  baseline: true\n");
  using Selected = std::vector<size_t>;
  EXPECT_EQ(select_trials(p, {}, ""), (Selected{0, 1, 2, 3, 4}));
  EXPECT_EQ(select_trials(p, {"rope=low"}, ""), (Selected{3, 4}));
  EXPECT_EQ(select_trials(p, {"mla.rope.strategy=low", "method=split"}, ""), (Selected{4}));
  EXPECT_EQ(select_trials(p, {"baseline=true"}, ""), (Selected{0}));
  EXPECT_EQ(select_trials(p, {}, "1/2"), (Selected{0, 2, 4}));
  EXPECT_EQ(select_trials(p, {}, "2/2"), (Selected{1, 3}));
  EXPECT_FAILS(kUsage, "did you mean low?", select_trials(p, {"rope=lw"}, ""));
  EXPECT_FAILS(kUsage, "one of baseline, rope, method", select_trials(p, {"colour=red"}, ""));
  EXPECT_FAILS(kUsage, "i/n with 1 <= i <= n", select_trials(p, {}, "3/2"));
}

}  // namespace
}  // namespace trainer
