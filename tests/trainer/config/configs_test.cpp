// Every file of configs/: keys, types, combinations, and what they make of the model that they
// name, of which only the shape is known here. Models and shards are not needed.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "model/convert.h"
#include "model/hf_config.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/config/config.h"
#include "trainer/models/calibration.h"
#include "trainer/run/prepare.h"
#include "trainer/sweep/plan.h"

namespace trainer {
namespace {

const fs::path kSource = MHA2MLA_SOURCE_DIR;
const fs::path kFolder = kSource / "configs";

model::LlamaConfig shape(int64_t hidden, int64_t layers, int64_t heads, int64_t kv_heads,
                         int64_t intermediate) {
  model::LlamaConfig config;
  config.hidden_size = hidden;
  config.num_hidden_layers = layers;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.intermediate_size = intermediate;
  config.vocab_size = 49152;
  config.max_position_embeddings = 2048;
  return config;
}

model::ModelSpec spec_of(const std::string& init_from) {
  const fs::path path = init_from;
  if (path == kSource / "examples/tiny-llama")
    return model::ModelSpec::unconverted(model::read_hf_config(path / "config.json"));
  std::map<std::string, model::LlamaConfig> shapes = {
      {"base-17m-mha", shape(384, 8, 6, 6, 1024)},
      {"SmolLM-135M", shape(576, 30, 9, 3, 1536)},
      {"SmolLM-360M", shape(960, 32, 15, 5, 2560)},
      {"SmolLM-1.7B", shape(2048, 24, 32, 32, 8192)},
      {"Llama-2-7B", shape(4096, 32, 32, 32, 11008)}};
  shapes["base-17m-mha"].max_position_embeddings = 1024;
  shapes["Llama-2-7B"].vocab_size = 32000;
  shapes["Llama-2-7B"].max_position_embeddings = 4096;
  EXPECT_EQ(path.parent_path(), kSource / "runs/models");
  return model::ModelSpec::unconverted(shapes.at(path.filename()));
}

void check_with_shape(const Config& config) {
  EXPECT_EQ(config_warnings(config), std::vector<std::string>());
  const model::ModelSpec source = spec_of(config.model.init_from);
  EXPECT_LE(config.tokens.sequence_length, source.config.context_length());
  if (!config.mla) return;
  const model::PairNorms norms = equal_pair_norms(source.config);
  const model::ModelSpec target =
      model::converted_spec(source, conversion_options(*config.mla, source.config.pairs()), &norms);
  EXPECT_LE(target.cache_elements_per_token(), source.cache_elements_per_token());
}

bool is_sweep(const fs::path& file) { return file.parent_path().filename() == "sweeps"; }

// As if `text` stood in the place of `file`.
void check(const fs::path& file, const std::string& text) {
  if (!is_sweep(file)) return check_with_shape(parse_config(text, file));
  for (const Trial& trial : plan_sweep(parse_sweep(text, file), {}, spec_of).trials)
    check_with_shape(trial.config);
}

std::vector<std::string> files() {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(kFolder))
    if (entry.is_regular_file()) names.push_back(fs::relative(entry.path(), kFolder));
  std::sort(names.begin(), names.end());
  return names;
}

// The text once for each of its keys, that key with a letter too many. Names of validation sets are
// free.
std::vector<std::string> misspelt(const std::string& text) {
  static const std::regex key(R"(^( *(?:- )?\{?)([a-z][a-z0-9_.]*):(?: .*)?$)");
  std::vector<std::string> lines, variants;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  std::string parent;
  for (std::string& line : lines) {
    std::smatch match;
    if (!std::regex_match(line, match, key)) continue;
    const std::string indent = match[1], name = match[2];
    if (line.ends_with(':')) parent = name;
    if (parent == "sets" && name != "sets" && indent.size() == 4) continue;
    const std::string good = line;
    line.insert(indent.size() + name.size(), "x");
    std::string variant;
    for (const std::string& each : lines) variant += each + "\n";
    variants.push_back(variant);
    line = good;
  }
  return variants;
}

class Configs : public testing::TestWithParam<std::string> {
 protected:
  const fs::path file_ = kFolder / GetParam();
  const std::string text_ = test_support::slurp(file_);
};

TEST_P(Configs, IsValidForTheShapeOfItsModel) {
  EXPECT_EQ(file_.extension(), ".yaml");
  EXPECT_NO_THROW(check(file_, text_));
}

TEST_P(Configs, NoKeyCanBeMisspelt) {
  const std::vector<std::string> variants = misspelt(text_);
  EXPECT_GE(variants.size(), is_sweep(file_) ? 3u : 20u);
  for (const std::string& variant : variants) {
    const auto refused = test_support::caught([&] { check(file_, variant); });
    EXPECT_EQ(refused.code, core::ExitCode::kBadConfig) << variant;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Configs, testing::ValuesIn(files()), [](const auto& file) {
  return std::regex_replace(file.param, std::regex("[^A-Za-z0-9]"), "_");
});

SweepPlan plan_of_paper(const std::string& name) {
  return plan_sweep(load_sweep(kFolder / "sweeps" / (name + ".yaml")), {}, spec_of);
}

TEST(PaperSweeps, CachesAreThoseOfTable1) {
  for (const char* name :
       {"table1-smollm-135m", "table1-smollm-360m", "table1-smollm-1.7b", "table1-llama-2-7b"}) {
    const SweepPlan plan = plan_of_paper(name);
    ASSERT_EQ(plan.trials.size(), 4u) << name;
    const double ratios[] = {1, 0.125, 0.1875, 0.3125};
    for (size_t t = 0; t < 4; ++t)
      EXPECT_EQ(static_cast<double>(plan.trials[t].cache_after),
                ratios[t] * static_cast<double>(plan.trials[t].cache_before))
          << name << " " << plan.trials[t].id;
  }
}

TEST(PaperSweeps, RowsAreThoseOfTables3And5) {
  for (const char* name : {"table3-smollm-135m", "table3-smollm-1.7b"}) {
    const SweepPlan plan = plan_of_paper(name);
    std::map<int64_t, int> rows;  // cache in per mille -> trials
    for (const Trial& trial : plan.trials) ++rows[1000 * trial.cache_after / trial.cache_before];
    EXPECT_EQ(rows, (std::map<int64_t, int>{{1000, 5}, {187, 4}})) << name;
  }
  const SweepPlan plan = plan_of_paper("table5-smollm-135m");
  std::multiset<int64_t> pairs;
  for (const Trial& trial : plan.trials)
    if (trial.config.mla) pairs.insert(trial.config.mla->rope.rope_pairs_per_head);
  EXPECT_EQ(pairs, (std::multiset<int64_t>{0, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8}));
  EXPECT_EQ(plan.trials.size(), 14u);
}

TEST(PaperRecipes, TokensAreThoseOfTheirSource) {
  const std::map<std::string, double> tokens = {
      {"smollm-135m-v1", 2.359e9}, {"smollm-360m-v1", 2.359e9}, {"smollm-1.7b-v1", 6.291e9},
      {"llama-2-7b-v1", 12.58e9},  {"smollm-135m-v2", 6.291e9}, {"smollm-360m-v2", 6.291e9},
      {"smollm-1.7b-v2", 6.291e9}, {"llama-2-7b-v2", 12.58e9}};
  for (const auto& [name, wanted] : tokens) {
    const TokensConfig t = load_config(kFolder / (name + ".yaml")).tokens;
    const auto made = static_cast<double>(t.train_steps * t.global_batch_size * t.sequence_length);
    EXPECT_NEAR(made / wanted, 1, 5e-4) << name;  // printed with four digits
  }
}

}  // namespace
}  // namespace trainer
