#include "model/hf_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/fixture.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using nlohmann::json;
using test_support::expect_refusal;
using test_support::TemporaryFolder;

// A valid configuration of a family; tests change one key at a time.
json valid(const std::string& model_type = "llama") {
  json config = {{"model_type", model_type}, {"vocab_size", 97},
                 {"hidden_size", 48},        {"intermediate_size", 80},
                 {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                 {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
  if (model_type == "mistral") config["sliding_window"] = nullptr;
  return config;
}

json with(json config, const std::string& key, const json& value) {
  config[key] = value;
  return config;
}

LlamaConfig read(const json& config, std::vector<std::string>* ignored = nullptr) {
  const TemporaryFolder folder;
  return read_hf_config(folder.write("config.json", config.dump()), ignored);
}

void expect_bad_config(const json& config, const std::string& part) {
  expect_refusal(ExitCode::kBadData, part, [&] { read(config); });
}

TEST(HfConfig, ReadsTheFixtures) {
  const auto config = [](const std::string& name) {
    return read_hf_config(test_support::fixture_path(name) / "config.json");
  };
  const LlamaConfig mha = config("llama-mha");
  EXPECT_EQ(mha.num_key_value_heads, 4);
  EXPECT_EQ(mha.head_dim, 12);
  EXPECT_EQ(mha.rms_norm_eps, 1e-5);
  EXPECT_FALSE(mha.tie_word_embeddings);
  EXPECT_EQ(mha.bos_token_id, 1);
  EXPECT_EQ(mha.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_TRUE(config("llama-gqa-tied").tie_word_embeddings);
  const LlamaConfig bias = config("llama-headdim-bias");
  EXPECT_TRUE(bias.qkv_bias && bias.output_bias);
  EXPECT_NE(bias.head_dim * bias.num_attention_heads, bias.hidden_size);
  const LlamaConfig qwen2 = config("qwen2");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.output_bias && !qwen2.mlp_bias);
  EXPECT_FALSE(config("mistral").qkv_bias);
  const RopeParameters llama3 = config("llama-rope-llama3").rope;
  EXPECT_EQ(llama3, (RopeParameters{.type = RopeParameters::Type::llama3,
                                    .theta = 10000,
                                    .factor = 8,
                                    .low_freq_factor = 1,
                                    .high_freq_factor = 4,
                                    .original_max_position_embeddings = 16}));
  EXPECT_EQ(config("llama-rope-linear").rope.type, RopeParameters::Type::linear);
}

TEST(HfConfig, FillsAbsentKeysAsTransformersDoes) {
  json config = valid();
  config.erase("num_key_value_heads");
  config.erase("max_position_embeddings");
  const LlamaConfig c = read(config);
  EXPECT_EQ(c.num_key_value_heads, 4);
  EXPECT_EQ(c.head_dim, 12);
  EXPECT_EQ(c.max_position_embeddings, 2048);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope, RopeParameters{});
  EXPECT_EQ(c.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_TRUE(read(valid("qwen2")).eos_token_ids.empty());
  EXPECT_EQ(read(with(valid(), "eos_token_id", {5, 7, 5})).eos_token_ids,
            (std::vector<int64_t>{5, 7}));
  EXPECT_TRUE(read(with(valid(), "eos_token_id", nullptr)).eos_token_ids.empty());
  EXPECT_EQ(read(with(valid(), "bos_token_id", nullptr)).bos_token_id, std::nullopt);
}

TEST(HfConfig, BothRopeSpellingsMeanTheSame) {
  const json block = {{"rope_type", "linear"}, {"factor", 4.0}};
  const json with_theta = {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 5e5}};
  const json old = with(with(valid(), "rope_theta", 5e5), "rope_scaling", block);
  const json legacy =
      with(with(valid(), "rope_theta", 5e5), "rope_scaling", {{"type", "linear"}, {"factor", 4.0}});
  const json newer = with(valid(), "rope_parameters", with_theta);
  EXPECT_EQ(read(old).rope, read(newer).rope);
  EXPECT_EQ(read(legacy).rope, read(newer).rope);
  EXPECT_EQ(read(with(old, "rope_parameters", with_theta)).rope, read(newer).rope);
  EXPECT_EQ(read(newer).rope.theta, 5e5);
  expect_bad_config(with(newer, "rope_theta", 1e4), "rope_parameters.rope_theta: expected 10000");
  expect_bad_config(with(newer, "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
                    "rope_scaling");
  expect_bad_config(with(newer, "rope_scaling", {{"type", "default"}}), "rope_scaling");
}

TEST(HfConfig, RefusesRopeItDoesNotKnow) {
  for (const std::string type : {"longrope", "mrope", "proportional"}) {
    const json block = {{"rope_type", type}, {"factor", 4.0}, {"rope_theta", 1e4}};
    expect_bad_config(with(valid(), "rope_parameters", block), "got " + type);
    expect_bad_config(with(valid(), "rope_scaling", block), "got " + type);
  }
  const auto scaled = [](const json& block) { return with(valid(), "rope_scaling", block); };
  expect_bad_config(scaled({{"factor", 2.0}}), "rope_type");
  expect_bad_config(scaled({{"type", "linear"}}), "rope_scaling.factor");
  expect_bad_config(scaled({{"type", "linear"}, {"factor", 0}}), "rope_scaling.factor");
  expect_bad_config(scaled({{"type", "linear"}, {"rope_type", "default"}}), "rope_scaling.type");
  expect_bad_config(scaled({{"type", "linear"}, {"factor", 2}, {"beta_fast", 32}}), "beta_fast");
  json llama3 = {{"rope_type", "llama3"},
                 {"factor", 8},
                 {"low_freq_factor", 4},
                 {"high_freq_factor", 4},
                 {"original_max_position_embeddings", 16}};
  expect_bad_config(scaled(llama3), "above low_freq_factor 4");
  llama3.erase("original_max_position_embeddings");
  llama3["low_freq_factor"] = 1;
  expect_bad_config(scaled(llama3), "original_max_position_embeddings");
  expect_bad_config(with(valid(), "rope_parameters", {{"partial_rotary_factor", 0.5}}),
                    "partial_rotary");
  expect_bad_config(with(valid(), "rope_parameters", {1}), "rope_parameters: expected an object");
  for (const json& theta : {json(0), json(-1), json("1e4"), json(true)})
    expect_bad_config(with(valid(), "rope_theta", theta), "rope_theta");
}

json yarn_block() {
  return {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
}

TEST(HfConfig, ReadsYarn) {
  const auto rope = [](const json& block) {
    return read(with(valid(), "rope_scaling", block)).rope;
  };
  const RopeParameters plain = rope(yarn_block());
  EXPECT_EQ(plain.type, RopeParameters::Type::yarn);
  EXPECT_EQ(plain.original_max_position_embeddings, 16);
  EXPECT_DOUBLE_EQ(plain.attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_TRUE(plain.beta_fast == 32 && plain.beta_slow == 1 && plain.truncate);
  EXPECT_EQ(rope({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}),
            plain);
  json without = yarn_block();
  without.erase("original_max_position_embeddings");
  EXPECT_EQ(rope(without).original_max_position_embeddings, 64);  // max_position_embeddings
  json mscale = with(with(yarn_block(), "mscale", 1.0), "mscale_all_dim", 0.5);
  EXPECT_DOUBLE_EQ(rope(mscale).attention_factor,
                   (0.1 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1));
  EXPECT_EQ(rope(with(mscale, "attention_factor", 1.25)).attention_factor, 1.25);
  EXPECT_EQ(rope(with(yarn_block(), "mscale", 0.7)).attention_factor, plain.attention_factor);
  const RopeParameters given =
      rope(with(with(with(yarn_block(), "beta_fast", 16), "beta_slow", 2), "truncate", false));
  EXPECT_TRUE(given.beta_fast == 16 && given.beta_slow == 2 && !given.truncate);
}

TEST(HfConfig, RefusesYarnAndDynamicThatMakeNoSense) {
  const auto bad = [](const json& block, const std::string& part) {
    expect_bad_config(with(valid(), "rope_scaling", block), part);
  };
  bad(with(yarn_block(), "beta_fast", 0.5), "beta_fast: expected at least beta_slow 1");
  bad(with(yarn_block(), "beta_slow", 0), "beta_slow");
  bad(with(yarn_block(), "attention_factor", -1), "attention_factor");
  bad(with(yarn_block(), "truncate", 1), "truncate: expected true or false");
  bad(with(yarn_block(), "rope_theta", 1.0), "rope_theta: expected above 1 with rope type yarn");
  bad(with(yarn_block(), "low_freq_factor", 1), "no such key with rope type yarn");
  json no_factor = yarn_block();
  no_factor.erase("factor");
  bad(no_factor, "rope_scaling.factor");
  bad({{"type", "dynamic"}}, "rope_scaling.factor");
  bad({{"type", "dynamic"}, {"factor", 0.5}}, "rope_scaling.factor");
  bad({{"type", "dynamic"}, {"factor", 2}, {"original_max_position_embeddings", 32}},
      "expected max_position_embeddings 64 with dynamic, got 32");
  bad({{"type", "dynamic"}, {"factor", 2}, {"beta_fast", 32}}, "no such key");
}

TEST(HfConfig, ReadsDynamicAndItsContext) {
  const LlamaConfig c = read(with(valid(), "rope_scaling", {{"type", "dynamic"}, {"factor", 2.5}}));
  EXPECT_EQ(c.rope.type, RopeParameters::Type::dynamic);
  EXPECT_EQ(c.rope.original_max_position_embeddings, 64);
  EXPECT_EQ(c.context_length(), 160);
  EXPECT_EQ(read(with(valid(), "rope_scaling", yarn_block())).context_length(), 64);
}

TEST(HfConfig, ReadsQwen3) {
  const json config = with(valid("qwen3"), "head_dim", 16);
  const LlamaConfig c = read(config);
  EXPECT_TRUE(c.qk_norm && !c.qkv_bias && !c.output_bias);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_TRUE(c.eos_token_ids.empty());
  EXPECT_FALSE(read(valid("qwen2")).qk_norm);
  const LlamaConfig biased = read(with(config, "attention_bias", true));
  EXPECT_TRUE(biased.qkv_bias && biased.output_bias);
  expect_bad_config(valid("qwen3"),
                    "head_dim: expected an integer");  // no quotient of others there
  expect_bad_config(with(config, "use_sliding_window", true), "sliding windows are not supported");
}

TEST(HfConfig, RefusesModelsThatComputeSomethingElse) {
  for (const std::string type : {"qwen3_moe", "mixtral", "deepseek_v3", "gpt2", "smollm3"})
    expect_bad_config(with(valid(), "model_type", type), "got " + type);
  expect_bad_config(with(valid(), "qk_norm", true), "only Qwen3");
  expect_bad_config(with(valid(), "architectures", {"Qwen3ForCausalLM"}), "LlamaForCausalLM");
  expect_bad_config(with(valid(), "architectures", {"LlamaForCausalLM", "X"}), "architectures");
  expect_bad_config(with(valid(), "hidden_act", "gelu"), "hidden_act: expected silu, got gelu");
  const std::map<std::string, json> changes = {{"attention_dropout", 0.1},
                                               {"quantization_config", {{"bits", 4}}},
                                               {"num_experts", 8},
                                               {"num_local_experts", 8},
                                               {"kv_lora_rank", 64},
                                               {"use_sliding_window", true},
                                               {"rope_interleaved", true},
                                               {"partial_rotary_factor", 0.5},
                                               {"use_qk_norm", true},
                                               {"no_rope_layers", {0, 1}},
                                               {"clip_qkv", 8.0},
                                               {"final_logit_softcapping", 30.0},
                                               {"residual_multiplier", 0.5},
                                               {"mla", {{"version", 1}}}};
  for (const auto& [key, value] : changes)
    for (const std::string type : {"llama", "qwen2", "mistral"})
      expect_bad_config(with(valid(type), key, value), " " + key + ": expected");
}

TEST(HfConfig, TakesWindowsOnlyWhereTheyHideNothing) {
  EXPECT_NO_THROW(read(with(with(valid("qwen2"), "sliding_window", 32), "max_window_layers", 1)));
  EXPECT_NO_THROW(read(with(valid("mistral"), "sliding_window", 64)));
  expect_bad_config(with(valid("mistral"), "sliding_window", 63), "sliding_window: expected null");
  json absent = valid("mistral");
  absent.erase("sliding_window");
  EXPECT_NO_THROW(read(absent));  // 4096, above 64
  expect_bad_config(with(absent, "max_position_embeddings", 32768), "nothing, which means 4096");
  const auto typed = [](const json& types) { return with(valid("qwen2"), "layer_types", types); };
  EXPECT_NO_THROW(read(typed({"full_attention", "full_attention"})));
  expect_bad_config(typed({"full_attention", "sliding_attention"}), "got \"sliding_attention\"");
  expect_bad_config(typed({"full_attention"}), "a list of 2 names");
}

TEST(HfConfig, RequiresSizesThatFit) {
  for (const std::string key : {"vocab_size", "hidden_size", "intermediate_size",
                                "num_hidden_layers", "num_attention_heads"}) {
    json absent = valid();
    absent.erase(key);
    expect_bad_config(absent, key + ": expected an integer from 1");
    const json wrong[] = {nullptr, "32", 32.0, true, 0, -1, 2147483648, 1e30, UINT64_MAX, {1}};
    for (const json& value : wrong) expect_bad_config(with(valid(), key, value), key);
  }
  expect_bad_config(with(valid(), "num_hidden_layers", 1'000'000'000), "from 1 to 1024");
  expect_bad_config(with(valid(), "num_key_value_heads", 3), "a divisor of 4 heads, got 3");
  expect_bad_config(with(valid(), "hidden_size", 50), "a multiple of 4 heads, got 50");
  expect_bad_config(with(valid(), "hidden_size", 52), "an even number, for RoPE, got 13");
  expect_bad_config(with(valid(), "head_dim", 1 << 24), "num_attention_heads * head_dim");
  expect_bad_config(with(with(valid(), "head_dim", 1 << 22), "num_hidden_layers", 1024), "at most");
  json many_heads = with(with(valid(), "head_dim", 2), "num_attention_heads", 32'769);
  many_heads["num_key_value_heads"] = 32'769;
  expect_bad_config(many_heads, "at most 65536, got 2 * 32769");
  json ids = json::array();
  for (int id = 0; id < 257; ++id) ids.push_back(id);
  expect_bad_config(with(valid(), "eos_token_id", ids), "at most 256 ids, got 257");
  json no_kv = valid("qwen2");
  no_kv.erase("num_key_value_heads");
  expect_bad_config(no_kv, "num_key_value_heads");
  for (const json& eps : {json(0), json(-1e-5), json(1e-30), json("1e-5")})
    expect_bad_config(with(valid(), "rms_norm_eps", eps), "rms_norm_eps");
  for (const json& id : {json(-1), json("2"), json(2.0), json({2, nullptr}), json(1ULL << 40)})
    expect_bad_config(with(valid(), "eos_token_id", id), "eos_token_id");
  expect_bad_config(with(valid(), "tie_word_embeddings", 1), "true or false, got 1");
}

TEST(HfConfig, RefusesFilesThatAreNoConfiguration) {
  const TemporaryFolder folder;
  const auto bad = [&](const std::string& text, const std::string& part) {
    const auto path = folder.write("config.json", text);
    expect_refusal(ExitCode::kBadData, part, [&] { read_hf_config(path); });
  };
  bad("", "JSON");
  bad("[]", "expected an object, got []");
  bad(std::string(100'000, '['), "nesting deeper than 64");
  bad(R"({"model_type": "llama", "model_type": "llama"})", "duplicate key");
  bad(R"({"model_type": "llama", "rope_theta": 1e400})", "JSON");
  bad("{}", "model_type: expected llama, qwen2, qwen3 or mistral, got nothing");
  bad("{}" + std::string("\0junk", 5), "NUL");
  bad(std::string((16 << 20) + 1, ' '), "at most 16777216 bytes");
  expect_refusal(ExitCode::kMissingInput, "absent.json",
                 [&] { read_hf_config(folder.path() / "absent.json"); });
}

TEST(HfConfig, NamesUnknownKeysAndNoHarmlessOnes) {
  std::vector<std::string> ignored;
  json config = with(with(valid(), "made_up", 1), "auto_map", {{"a", "b"}});
  for (const std::string key : {"use_cache", "torch_dtype", "pretraining_tp", "pad_token_id",
                                "_name_or_path", "transformers_version", "rope_interleaved"})
    config[key] = key == "rope_interleaved" ? json(false) : json(nullptr);
  read(config, &ignored);
  EXPECT_EQ(ignored, (std::vector<std::string>{"auto_map", "made_up"}));
}

}  // namespace
}  // namespace model
