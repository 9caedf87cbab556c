#include "model/hf_export.h"

#include <gtest/gtest.h>

#include "model/convert.h"
#include "model/dense.h"
#include "model/hf_mla_config.h"
#include "model/safetensors.h"
#include "tests/support/mla_golden.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using nlohmann::json;
using test_support::expect_refusal;
using test_support::fixture_path;
using test_support::TemporaryFolder;

std::string config_of(const std::string& fixture) {
  return core::read_text(fixture_path(fixture) / "config.json");
}

void write(const TemporaryFolder& folder, const HfFolder& contents) {
  write_safetensors(folder.path() / "model.safetensors", contents.tensors, {{"format", "pt"}});
  for (const auto& [name, bytes] : contents.files) folder.write(name, bytes);
}

PairNorms norms_of(const std::string& fixture, const Model& source) {
  return test_support::calibrated(source, fixture, ag::DType::f32);
}

Model converted(const std::string& fixture, const ConversionOptions& options) {
  const Model source = import_hf(fixture_path(fixture));
  const PairNorms norms = norms_of(fixture, source);
  return convert(source, options, &norms).model;
}

void expect_same_model(const Model& a, const Model& b, const std::string& label) {
  EXPECT_TRUE(a.spec.attention == b.spec.attention) << label;
  ASSERT_EQ(a.weights.size(), b.weights.size()) << label;
  for (const auto& [path, tensor] : a.weights) {
    const ag::Tensor& other = b.weights.at(path);
    ASSERT_TRUE(tensor.dtype() == other.dtype() && tensor.shape() == other.shape())
        << label << path;
    std::vector<std::byte> x(static_cast<size_t>(tensor.bytes())), y(x.size());
    tensor.copy_to(x.data());
    other.copy_to(y.data());
    EXPECT_TRUE(x == y) << label << " " << path;
  }
}

struct Case {
  RopeStrategy strategy;
  int64_t r;
  LatentMethod method;
};

std::vector<Case> cases(HfLayout layout) {
  std::vector<Case> list;
  for (const LatentMethod method : {LatentMethod::joint, LatentMethod::split, LatentMethod::none}) {
    for (const RopeStrategy strategy :
         {RopeStrategy::high, RopeStrategy::low, RopeStrategy::uniform, RopeStrategy::high_low,
          RopeStrategy::two_norm})
      list.push_back({strategy, strategy == RopeStrategy::high_low ? 3 : 2, method});
    if (layout == HfLayout::v2) continue;
    list.push_back({RopeStrategy::none, 0, method});
    if (method == LatentMethod::joint) list.push_back({RopeStrategy::full, 6, method});
  }
  return list;
}

// Export -> import, bit by bit, for every strategy and method.
void expect_round_trips(const std::string& fixture, HfLayout layout,
                        std::optional<ag::DType> dtype) {
  const Model source = import_hf(fixture_path(fixture));
  const PairNorms norms = norms_of(fixture, source);
  for (const Case& c : cases(layout)) {
    const std::string label = fixture + " " + to_string(c.strategy) + " " + to_string(c.method);
    const Model model =
        convert(source,
                {.rope = {c.strategy, c.r, 0}, .method = c.method, .latent_dims_per_kv_head = 5},
                &norms)
            .model;
    const TemporaryFolder folder;
    write(folder, hf_folder(with_dtype(model, dtype), layout, config_of(fixture), fixture));
    std::vector<std::string> notes;
    expect_same_model(with_dtype(model, dtype), import_hf(folder.path(), &notes), label);
    EXPECT_TRUE(notes.empty()) << label << ": " << notes[0];
  }
}

TEST(HfExport, RoundTripV1) {
  expect_round_trips("llama-mha", HfLayout::v1, std::nullopt);
  expect_round_trips("llama-gqa-tied", HfLayout::v1, std::nullopt);
  expect_round_trips("mistral", HfLayout::v1, std::nullopt);
}

TEST(HfExport, RoundTripV2) {
  expect_round_trips("llama-mha", HfLayout::v2, std::nullopt);
  expect_round_trips("llama-gqa-tied", HfLayout::v2, std::nullopt);
  expect_round_trips("qwen2", HfLayout::v2, std::nullopt);
}

TEST(HfExport, RoundTripInBfloat16) {
  expect_round_trips("llama-gqa-tied", HfLayout::v1, ag::DType::bf16);
  expect_round_trips("qwen2", HfLayout::v2, ag::DType::bf16);
}

TEST(HfExport, FirstLayoutKeepsAnyHeadDim) {
  const Model model = converted(
      "llama-headdim-bias", {.rope = {RopeStrategy::two_norm, 3, 0}, .method = LatentMethod::none});
  const TemporaryFolder folder;
  write(folder, hf_folder(model, HfLayout::v1, config_of("llama-headdim-bias"), ""));
  expect_same_model(model, import_hf(folder.path()), "head_dim");
}

TEST(HfExport, ConfigOfV1) {
  const Model model = converted("llama-gqa-tied", {.rope = {RopeStrategy::two_norm, 2, 0},
                                                   .method = LatentMethod::joint,
                                                   .latent_dims_per_kv_head = 5});
  const HfFolder folder = hf_folder(model, HfLayout::v1, config_of("llama-gqa-tied"), "");
  const json config = json::parse(folder.files.at("config.json"));
  EXPECT_EQ(config["RoPE"], json({{"partial_rope_version", 4},
                                  {"top_k_rope_dim", 2},
                                  {"last_k_rope_dim", 0},
                                  {"uniform_start_point", 0},
                                  {"uniform_step", 1},
                                  {"qk_tensor_path", "qk_tensor.pth"},
                                  {"n_gqa_group", 2}}));
  EXPECT_EQ(config["SVD"], json({{"method", 7}, {"low_rank", 5}}));
  EXPECT_TRUE(folder.files.contains("qk_tensor.pth"));
  EXPECT_EQ(config["model_type"], "llama");
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["rope_theta"], 10000.0);
  EXPECT_TRUE(config["rope_scaling"].is_null());
  EXPECT_EQ(config["rope_parameters"], json({{"rope_theta", 10000.0}, {"rope_type", "default"}}));
  EXPECT_FALSE(folder.tensors.contains("lm_head.weight")) << "tied";
}

TEST(HfExport, ConfigOfV2) {
  const Model model = converted("llama-gqa-tied", {.rope = {RopeStrategy::uniform, 2, 1},
                                                   .method = LatentMethod::split,
                                                   .latent_dims_per_kv_head = 5});
  const HfFolder folder =
      hf_folder(with_dtype(model, ag::DType::bf16), HfLayout::v2, config_of("llama-gqa-tied"), "");
  const json config = json::parse(folder.files.at("config.json"));
  EXPECT_EQ(config["mha2mla"], json({{"model_name_or_path", nullptr},
                                     {"partial_rope_version", "uniform"},
                                     {"rope_dim_for_mla", 4},
                                     {"uniform_start_point", 1},
                                     {"qk_tensor_path", nullptr},
                                     {"svd_init_method", "split"},
                                     {"low_rank", 5},
                                     {"is_baseline", false},
                                     {"is_gqa2mha2mla", false},
                                     {"is_mla_from_scratch", false}}));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_EQ(folder.files.size(), 2U) << "no file of pairs without 2-norm";
  EXPECT_EQ(
      folder.files.at(kModelingFile),
      core::read_text(std::filesystem::path(MHA2MLA_SOURCE_DIR) / "tools/hf" / kModelingFile));
  EXPECT_TRUE(folder.tensors.contains("lm_head.weight")) << "its code loads strictly";
}

TEST(HfExport, BothRopeSpellings) {
  const Model old = import_hf(fixture_path("llama-rope-linear"));
  const json a = json::parse(
      hf_folder(old, HfLayout::plain, config_of("llama-rope-linear"), "").files.at("config.json"));
  EXPECT_EQ(a["rope_scaling"]["rope_type"], "linear");
  EXPECT_EQ(a["rope_parameters"]["factor"], a["rope_scaling"]["factor"]);
  EXPECT_EQ(a["rope_parameters"]["rope_theta"], a["rope_theta"]);
  const Model newer = import_hf(fixture_path("llama-rope-llama3"));
  const json b = json::parse(hf_folder(newer, HfLayout::plain, config_of("llama-rope-llama3"), "")
                                 .files.at("config.json"));
  EXPECT_EQ(b["rope_theta"], b["rope_parameters"]["rope_theta"]);
  EXPECT_EQ(b["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(b["rope_scaling"]["low_freq_factor"], b["rope_parameters"]["low_freq_factor"]);
}

TEST(HfExport, RefusesWhatALayoutCannotExpress) {
  const auto refused = [](const Model& model, HfLayout layout, const std::string& part) {
    expect_refusal(ExitCode::kBadConfig, part,
                   [&] { hf_folder(model, layout, config_of("llama-gqa-tied"), "here"); });
  };
  const Model source = import_hf(fixture_path("llama-gqa-tied"));
  refused(source, HfLayout::v1,
          "model: expected a converted one for layout v1, got an unconverted");
  const ConversionOptions joint = {.rope = {RopeStrategy::high, 2, 0},
                                   .method = LatentMethod::joint,
                                   .latent_dims_per_kv_head = 5};
  ModelSpec spec = convert(source, joint, nullptr).model.spec;
  refused({spec, {}}, HfLayout::plain, "model: expected an unconverted one");
  spec.attention[1].kept_pairs[1] = {0};
  refused({spec, {}}, HfLayout::v2,
          "here:layer 1: error: rotary pairs: expected 2 in every head, as in layer 0");
  spec = convert(source, joint, nullptr).model.spec;
  spec.attention[1].latent_dims = 8;
  refused({spec, {}}, HfLayout::v1, "layer 1: error: latent: expected joint of width 10");
  spec.attention[0].latent_dims = spec.attention[1].latent_dims = 9;
  refused({spec, {}}, HfLayout::v1, "latent width: expected a multiple of 2 kv heads");
  const auto with = [&](RopeStrategy strategy, int64_t r) {
    return convert(source,
                   {.rope = {strategy, r, 0},
                    .method = LatentMethod::joint,
                    .latent_dims_per_kv_head = 5},
                   nullptr)
        .model;
  };
  refused(with(RopeStrategy::full, 6), HfLayout::v2, "rotary pairs: expected 1 to 5 per head");
  refused(with(RopeStrategy::none, 0), HfLayout::v2, "layout v1 takes none and all");
  refused(converted("qwen2", joint), HfLayout::v1,
          "model_type: expected llama, mistral for layout v1");
  const Model qwen3 = import_hf(fixture_path("qwen3"));
  refused(
      convert(qwen3, {.rope = {RopeStrategy::high, 2, 0}, .method = LatentMethod::none}, nullptr)
          .model,
      HfLayout::v2, "model_type: expected llama, mistral, qwen2 for layout v2, got qwen3");
  const Model yarn = import_hf(fixture_path("llama-rope-yarn"));
  refused(convert(yarn, joint, nullptr).model, HfLayout::v1,
          "attention factor of yarn: expected 1");
  ConversionOptions every_pair = joint;
  every_pair.rope = {RopeStrategy::full, 6, 0};
  Model full = convert(yarn, every_pair, nullptr).model;
  refused(full, HfLayout::v1,
          "original_max_position_embeddings of yarn: expected 64 for layout v1, got 16");
  full.spec.config.rope.original_max_position_embeddings = 64;
  full.spec.config.rope.truncate = false;
  refused(full, HfLayout::v1, "truncate of yarn: expected true");
  refused(converted("llama-headdim-bias", joint), HfLayout::v1, "attention_bias: expected false");
  refused(converted("llama-headdim-bias", joint), HfLayout::v2,
          "head_dim: expected hidden_size 48 / 4 heads for layout v2, got 16");
}

// ---- dense ----

TEST(Dense, MultipliesOutWhatAFullRankConversionFactored) {
  for (const std::string fixture : {"llama-gqa-tied", "llama-headdim-bias", "qwen2"}) {
    const Model source = import_hf(fixture_path(fixture));
    const int64_t c =
        std::min<int64_t>(source.spec.config.head_dim, 48 / source.spec.config.num_key_value_heads);
    const Model mla = convert(source,
                              {.rope = {RopeStrategy::full, source.spec.config.pairs(), 0},
                               .method = LatentMethod::joint,
                               .latent_dims_per_kv_head = c},
                              nullptr)
                          .model;
    const Model dense = expand_to_dense(mla, "mla");
    EXPECT_FALSE(dense.spec.is_converted());
    ASSERT_EQ(dense.weights.size(), source.weights.size());
    for (const auto& [path, tensor] : source.weights) {
      const std::vector<float> x = tensor.to_host<float>(),
                               y = dense.weights.at(path).to_host<float>();
      const bool product = path.ends_with("attn.v.weight");
      for (size_t i = 0; i < x.size(); ++i)
        // The factors are rounded to float32, each entry of V to sqrt(C) 2^-24 of a row's norm.
        ASSERT_NEAR(x[i], y[i], product ? 1e-6 : 0) << fixture << " " << path;
    }
  }
}

TEST(Dense, LeavesOutNoRotation) {
  const Model mla = converted("llama-gqa-tied", {.rope = {RopeStrategy::high, 5, 0},
                                                 .method = LatentMethod::joint,
                                                 .latent_dims_per_kv_head = 5});
  expect_refusal(ExitCode::kBadConfig, "layer 0: error: rotary pairs: expected all 6 of each head",
                 [&] { expand_to_dense(mla, "mla"); });
}

}  // namespace
}  // namespace model
