// Names and shapes of the public MHA2MLA layouts, written down from their description (sections 2.3
// and 2.4): d = 48, H = 4, G = 2, D = 12, so with r = 2 pairs and c = 5 dims per kv head
//   G 2r = 8,  G (D - 2r) = 16,  G D = 24,  C = 10.
#include "model/hf_layout.h"

#include <gtest/gtest.h>

#include "model/convert.h"
#include "tests/support/mla_golden.h"

namespace model {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

// Below model.layers.1.self_attn.
Shapes attention_shapes(const std::string& fixture, const ConversionOptions& options,
                        HfLayout layout) {
  const Model source = import_hf(test_support::fixture_path(fixture));
  const Conversion conversion = convert(source, options, nullptr);
  const std::string prefix = "model.layers.1.self_attn.";
  Shapes shapes;
  for (const auto& [name, tensor] : to_hf(conversion.model, layout))
    if (name.starts_with(prefix)) {
      std::vector<int64_t>& shape = shapes[name.substr(prefix.size())];
      for (int i = 0; i < tensor.shape().rank(); ++i) shape.push_back(tensor.shape()[i]);
    }
  return shapes;
}

ConversionOptions options_of(RopeStrategy strategy, int64_t r, LatentMethod method) {
  return {.rope = {strategy, r, 0}, .method = method, .latent_dims_per_kv_head = 5};
}

TEST(HfLayout, V1Joint) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},   {"W_k_r.weight", {8, 48}},
                           {"W_down_k.weight", {10, 48}}, {"W_up_k.weight", {16, 10}},
                           {"W_up_v.weight", {24, 10}},   {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("llama-gqa-tied",
                             options_of(RopeStrategy::high, 2, LatentMethod::joint), HfLayout::v1),
            expected);
}

TEST(HfLayout, V1Split) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},   {"W_k_r.weight", {8, 48}},
                           {"W_down_k.weight", {10, 48}}, {"W_down_v.weight", {10, 48}},
                           {"W_up_k.weight", {16, 10}},   {"W_up_v.weight", {24, 10}},
                           {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("llama-gqa-tied",
                             options_of(RopeStrategy::low, 2, LatentMethod::split), HfLayout::v1),
            expected);
}

TEST(HfLayout, V1WithoutLatent) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},
                           {"k_proj.weight", {24, 48}},
                           {"v_proj.weight", {24, 48}},
                           {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("llama-gqa-tied",
                             options_of(RopeStrategy::high, 2, LatentMethod::none), HfLayout::v1),
            expected);
}

TEST(HfLayout, V2Joint) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},          {"k_r_proj.weight", {8, 48}},
                           {"kv_proj.down_kv.weight", {10, 48}}, {"kv_proj.up_k.weight", {16, 10}},
                           {"kv_proj.up_v.weight", {24, 10}},    {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("llama-gqa-tied",
                             options_of(RopeStrategy::high, 2, LatentMethod::joint), HfLayout::v2),
            expected);
}

TEST(HfLayout, V2SplitWithBiases) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},         {"q_proj.bias", {48}},
                           {"k_r_proj.weight", {8, 48}},        {"k_r_proj.bias", {8}},
                           {"kv_proj.down_k.weight", {10, 48}}, {"kv_proj.down_v.weight", {10, 48}},
                           {"kv_proj.up_k.weight", {16, 10}},   {"kv_proj.up_k.bias", {16}},
                           {"kv_proj.up_v.weight", {24, 10}},   {"kv_proj.up_v.bias", {24}},
                           {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("qwen2", options_of(RopeStrategy::uniform, 2, LatentMethod::split),
                             HfLayout::v2),
            expected);
}

TEST(HfLayout, V2WithoutLatent) {
  const Shapes expected = {{"q_proj.weight", {48, 48}},
                           {"k_r_proj.weight", {8, 48}},
                           {"kv_proj.up_k.weight", {16, 48}},
                           {"kv_proj.up_v.weight", {24, 48}},
                           {"o_proj.weight", {48, 48}}};
  EXPECT_EQ(attention_shapes("llama-gqa-tied", options_of(RopeStrategy::low, 2, LatentMethod::none),
                             HfLayout::v2),
            expected);
}

// Rows of q in v2: rotary of heads 0 .. 3, then the rest of heads 0 .. 3; in each the source's
// order. Pairs {0, 3} of 6 are columns 0, 3, 6, 9.
TEST(HfLayout, V2OrderOfQueryRows) {
  const Model source = import_hf(test_support::fixture_path("llama-gqa-tied"));
  const Conversion conversion =
      convert(source, options_of(RopeStrategy::uniform, 2, LatentMethod::joint), nullptr);
  const ag::Tensor& q = source.weights.at("layers.0.attn.q.weight");
  const std::vector<float> before = q.to_host<float>(),
                           after = to_hf(conversion.model, HfLayout::v2)
                                       .at("model.layers.0.self_attn.q_proj.weight")
                                       .to_host<float>();
  const std::vector<int64_t> rotary = {0, 3, 6, 9}, rest = {1, 2, 4, 5, 7, 8, 10, 11};
  std::vector<int64_t> order;
  for (const auto& columns : {rotary, rest})
    for (int64_t head = 0; head < 4; ++head)
      for (const int64_t column : columns) order.push_back(head * 12 + column);
  for (size_t row = 0; row < order.size(); ++row)
    for (int64_t j = 0; j < 48; ++j)
      ASSERT_EQ(after[row * 48 + static_cast<size_t>(j)],
                before[static_cast<size_t>(order[row] * 48 + j)])
          << "row " << row;
}

}  // namespace
}  // namespace model
