// Layer by layer, the same bits as the whole model at once, and never two layers in memory.
#include "model/streamed_llama.h"

#include <algorithm>

#include "model/convert.h"
#include "model/llama.h"
#include "tests/support/mla_golden.h"

namespace model {
namespace {

using test_support::flat;
using test_support::mla_golden;

class StreamedLlama : public testing::TestWithParam<std::string> {
 protected:
  ag::Tensor ids() const { return mla_golden(GetParam(), "input_ids"); }
};

// Bit by bit the same forward, for the batches of Llama.
void expect_same_bits(const Model& model, ag::DType compute, const ag::Tensor& ids) {
  Llama whole(model, {.compute = compute});
  MemoryReader reader(model);
  std::vector<int64_t> layers;
  const std::vector<ag::Tensor> hidden =
      streamed_hidden(reader, compute, {{flat(ids), ids.rows()}, {flat(ids), ids.rows()}}, {},
                      [&](int64_t layer) { layers.push_back(layer); });
  Head head(reader, compute);
  const std::vector<float> logits = whole.logits(flat(ids), ids.rows()).to_host<float>();
  ASSERT_EQ(hidden.size(), 2u);
  for (const ag::Tensor& h : hidden) EXPECT_EQ(head.logits(h).to_host<float>(), logits);
  std::vector<int64_t> ascending(static_cast<size_t>(model.spec.config.num_hidden_layers));
  std::iota(ascending.begin(), ascending.end(), 0);
  EXPECT_EQ(layers, ascending);
}

TEST_P(StreamedLlama, HasTheBitsOfLlama) {
  const Model source = import_hf(test_support::fixture_path(GetParam()));
  const Model converted =
      convert(source, {{RopeStrategy::high, 2, 0}, RopeScore::product, LatentMethod::joint, 4},
              nullptr)
          .model;
  for (const ag::DType compute : {ag::DType::f32, ag::DType::bf16}) {
    expect_same_bits(source, compute, ids());
    expect_same_bits(converted, compute, ids());
  }
}

TEST_P(StreamedLlama, AFolderReadOneTensorAtATimeConvertsToTheSameBits) {
  const auto folder = test_support::fixture_path(GetParam());
  const ConversionOptions options = {
      {RopeStrategy::high, 2, 0}, RopeScore::product, LatentMethod::split, 3};
  const Conversion whole = convert(import_hf(folder), options, nullptr);
  const auto source = open_hf(folder);
  ConvertedReader converted(*source, converted_spec(source->spec(), options, nullptr));
  std::vector<std::string> paths;
  for (const ParameterShape& p : parameter_shapes(converted.spec())) paths.push_back(p.path);
  std::ranges::sort(paths);  // as they are written
  ASSERT_EQ(paths.size(), whole.model.weights.size());
  for (const std::string& path : paths) {
    const ag::Tensor streamed = converted.load(path), wanted = whole.model.weights.at(path);
    ASSERT_EQ(streamed.dtype(), wanted.dtype()) << path;
    ASSERT_EQ(streamed.dtype(), converted.dtype(path)) << path;
    ASSERT_TRUE(streamed.shape() == wanted.shape()) << path;
    EXPECT_EQ(streamed.to_host<float>(), wanted.to_host<float>()) << path;
  }
  for (size_t l = 0; l < whole.layers.size(); ++l)
    EXPECT_EQ(converted.layers()[l].error, whole.layers[l].error);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, StreamedLlama, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

}  // namespace
}  // namespace model
