// config.json of converted models, as the public MHA2MLA code writes it and as nobody should.
#include "model/hf_mla_config.h"

#include <gtest/gtest.h>

#include "model/hf_config.h"
#include "model/torch_tensor.h"
#include "tests/support/fixture.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using nlohmann::json;
using test_support::expect_refusal;
using test_support::TemporaryFolder;
using Pairs = std::vector<int32_t>;

// 2 layers, 2 kv heads, 6 pairs.
LlamaConfig config() {
  return read_hf_config(test_support::fixture_path("llama-gqa-tied") / "config.json");
}

std::vector<AttentionSpec> read_mla(const json& document,
                                    const std::filesystem::path& folder = "nowhere") {
  return read_hf_mla(folder, document, config()).value().attention;
}

Pairs first_pairs(const json& document) { return read_mla(document)[0].kept_pairs[0]; }

TEST(HfMlaConfig, VersionsOfV1) {
  const auto rope = [](json block) { return json{{"RoPE", std::move(block)}}; };
  EXPECT_EQ(first_pairs(rope({{"partial_rope_version", 0}})), (Pairs{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(first_pairs(rope({{"partial_rope_version", "full-rope"}})), (Pairs{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(first_pairs(rope({{"partial_rope_version", 1}, {"top_k_rope_dim", 2}})), (Pairs{0, 1}));
  EXPECT_EQ(first_pairs(rope({{"partial_rope_version", 1}, {"top_k_rope_dim", 0}})), (Pairs{}));
  EXPECT_EQ(first_pairs(rope(
                {{"partial_rope_version", 2}, {"uniform_start_point", 1}, {"uniform_step", 3}})),
            (Pairs{1, 4}));
  EXPECT_EQ(first_pairs(
                rope({{"partial_rope_version", 3}, {"top_k_rope_dim", 1}, {"last_k_rope_dim", 2}})),
            (Pairs{0, 4, 5}));
  EXPECT_EQ(first_pairs(rope({{"partial_rope_version", "low"}, {"last_k_rope_dim", 2}})),
            (Pairs{4, 5}));
}

TEST(HfMlaConfig, MethodsOfV1) {
  const auto method = [](int number) {
    return read_mla({{"RoPE", {{"partial_rope_version", 0}}},
                     {"SVD", {{"method", number}, {"low_rank", 4}}}})[1];
  };
  for (const int joint : {1, 4, 5, 6, 7}) EXPECT_EQ(method(joint).method, LatentMethod::joint);
  for (const int split : {2, 3}) EXPECT_EQ(method(split).method, LatentMethod::split);
  EXPECT_EQ(method(0).method, LatentMethod::none);
  EXPECT_EQ(method(7).latent_dims, 8) << "low_rank counts per kv head";
}

TEST(HfMlaConfig, VersionsOfV2) {
  const auto block = [](json more) {
    json all = {{"rope_dim_for_mla", 4}, {"low_rank", 4}, {"svd_init_method", "joint"}};
    all.update(more);
    return json{{"mha2mla", all}};
  };
  EXPECT_EQ(first_pairs(block({{"partial_rope_version", "high"}})), (Pairs{0, 1}));
  EXPECT_EQ(first_pairs(block({{"partial_rope_version", "low"}})), (Pairs{4, 5}));
  EXPECT_EQ(first_pairs(block({{"partial_rope_version", "uniform"}, {"uniform_start_point", 2}})),
            (Pairs{2, 5}));
  EXPECT_FALSE(read_hf_mla("nowhere", block({{"is_baseline", true}}), config()));
  EXPECT_FALSE(read_hf_mla("nowhere", json::object(), config()));
}

// Scores with the highest at pairs 3 and 1 of every head; ranks of the same.
TEST(HfMlaConfig, FilesOfTwoNorm) {
  const TemporaryFolder folder;
  std::vector<float> scores;
  std::vector<uint8_t> ranks;
  for (int head = 0; head < 4; ++head) {
    for (const float score : {0.1F, 0.8F, 0.2F, 0.9F, 0.3F, 0.4F}) scores.push_back(score);
    for (int half = 0; half < 2; ++half)
      for (const uint8_t rank : std::initializer_list<uint8_t>{5, 1, 4, 0, 3, 2})
        ranks.push_back(rank);
  }
  folder.write("scores.pth", format_torch_tensor({2, 2, 6}, scores));
  folder.write("ranks.pth", format_torch_tensor({2, 2, 12}, ranks));
  const json v1 = {{"RoPE",
                    {{"partial_rope_version", 4},
                     {"top_k_rope_dim", 2},
                     {"qk_tensor_path", "/home/somebody/utils/scores.pth"}}}};
  const json v2 = {{"mha2mla",
                    {{"partial_rope_version", "2-norm"},
                     {"rope_dim_for_mla", 4},
                     {"qk_tensor_path", "../utils/ranks.pth"}}}};
  for (const json& document : {v1, v2})
    for (const AttentionSpec& layer : read_mla(document, folder.path()))
      EXPECT_EQ(layer.kept_pairs, (std::vector<Pairs>{{1, 3}, {1, 3}}));
  folder.write("ranks.pth", format_torch_tensor({2, 2, 6}, scores));
  expect_refusal(ExitCode::kBadData, "shape: expected [2, 2, 12], got [2, 2, 6]",
                 [&] { read_mla(v2, folder.path()); });
  ranks[6] = 0;
  folder.write("ranks.pth", format_torch_tensor({2, 2, 12}, ranks));
  expect_refusal(ExitCode::kBadData, "layer 0, kv head 0: error: ranks: expected 2 pairs below 2",
                 [&] { read_mla(v2, folder.path()); });
}

TEST(HfMlaConfig, RefusesByName) {
  const auto refused = [](const json& document, const std::string& part) {
    expect_refusal(ExitCode::kBadData, part, [&] { read_mla(document); });
  };
  refused({{"RoPE", json::object()}}, "RoPE.partial_rope_version: expected 0 to 5, got null");
  refused({{"RoPE", 3}}, "RoPE: expected an object, got 3");
  refused({{"SVD", json::object()}}, "RoPE: expected an object beside SVD");
  refused({{"RoPE", json::object()}, {"mha2mla", json::object()}}, "one of mha2mla and RoPE");
  refused({{"RoPE", {{"partial_rope_version", 1}}}}, "RoPE.top_k_rope_dim: expected an integer");
  refused({{"RoPE", {{"partial_rope_version", 2}, {"uniform_step", 4}}}},
          "RoPE.uniform_step: expected a divisor of 6 pairs, got 4");
  refused({{"RoPE", {{"partial_rope_version", 0}}}, {"SVD", {{"method", 7}}}},
          "SVD.low_rank: expected an integer");
  refused({{"mha2mla", {{"rope_dim_for_mla", 12}}}}, "expected an integer from 2 to 10, got 12");
  refused({{"mha2mla", {{"rope_dim_for_mla", 5}}}}, "expected an even number, got 5");
  refused({{"mha2mla", {{"is_gqa2mha2mla", true}}}}, "is_gqa2mha2mla: expected false");
  refused({{"mha2mla", {{"rope_dim_for_mla", 4}, {"partial_rope_version", "none"}}}},
          "expected high, low, uniform or 2-norm");
  expect_refusal(ExitCode::kMissingInput, "qk_tensor_path: expected the file", [] {
    read_mla({{"RoPE", {{"partial_rope_version", 4}, {"top_k_rope_dim", 2}}}});
  });
}

}  // namespace
}  // namespace model
