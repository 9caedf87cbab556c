// Source models against Hugging Face transformers: logits, loss, every gradient, greedy generation.
#include "model/hf_names.h"
#include "tests/support/mla_golden.h"

namespace model {
namespace {

using test_support::flat;
using test_support::golden;
using test_support::relative_distance;

class Golden : public testing::TestWithParam<std::string> {
 protected:
  Model source() const { return import_hf(test_support::fixture_path(GetParam())); }
  ag::Tensor ids() const { return golden(GetParam(), "input_ids"); }
};

TEST_P(Golden, LogitsInFloat32) {
  Llama llama(source(), {});
  const ag::Tensor logits = llama.logits(flat(ids()), ids().rows());
  const ag::Tensor want = golden(GetParam(), "logits_f32");
  EXPECT_LE(relative_distance(logits.reshaped(want.shape()), want), 2e-5);
  EXPECT_LE(test_support::max_relative_distance(logits.reshaped(want.shape()), want), 2e-5);
}

TEST_P(Golden, LogitsInFloat64) {
  Llama llama(source(), {.compute = ag::DType::f64});
  const ag::Tensor logits = llama.logits(flat(ids()), ids().rows());
  const ag::Tensor want = golden(GetParam(), "logits_f64");
  // The reference keeps cosines and sines in float32 even here, hence not 1e-12.
  EXPECT_LE(relative_distance(logits.reshaped(want.shape()), want), 1e-5);
}

void expect_gradients(const Model& source, const std::string& fixture,
                      const LlamaOptions& options) {
  Llama llama(source, options);
  ag::Tensor gradient = llama.params().make_gradient();
  llama.params().select_gradient(gradient);
  const ag::Tensor ids = golden(fixture, "input_ids");
  const test_support::ShiftedIds batch(ids);
  ag::Tape tape;
  const double scale = 1 / batch.count();
  const ag::Value loss = llama.loss(tape, batch.inputs, batch.targets, ids.rows(),
                                    {.gradient_scale = scale, .row_loss = nullptr});
  EXPECT_NEAR(loss.data.to_host<double>()[0] / batch.count(),
              test_support::doubles(golden(fixture, "loss_f64"))[0], 1e-5);
  tape.backward(loss, scale);
  EXPECT_EQ(tape.clones(), 0) << "the residual stream's gradient must not be copied";
  for (const ag::Param& p : llama.params().all()) {
    const ag::Tensor want = golden(fixture, "grad." + hf_name_of_path(p.name).value());
    const std::vector<double> wanted = test_support::doubles(want);
    double norm = 0;
    for (const double w : wanted) norm = std::max(norm, std::abs(w));
    // A key bias shifts all scores of a query alike, so its true gradient is zero: what the
    // reference holds there is its own rounding, far below any other gradient.
    const double floor = norm < 1e-7 ? 1e-3 : 0;
    EXPECT_LE(relative_distance(p.gradient(), want, floor), 1e-4) << p.name;
  }
}

TEST_P(Golden, EveryGradientInFloat32) { expect_gradients(source(), GetParam(), {}); }

TEST_P(Golden, EveryGradientUnderRecompute) {
  for (const Recompute recompute : {Recompute::attention, Recompute::block})
    expect_gradients(source(), GetParam(), {.recompute = recompute});
}

// Not for dynamic rope: its frequencies change as the text grows.
using GoldenGeneration = Golden;

TEST_P(GoldenGeneration, GreedyFromTheCache) {
  Llama llama(source(), {});
  const ag::Tensor want = golden(GetParam(), "generated");
  const std::vector<int32_t> rows = want.to_host<int32_t>();
  for (int64_t b = 0; b < want.rows(); ++b) {
    std::vector<int32_t> text(rows.begin() + b * 20, rows.begin() + b * 20 + 8);
    Cache cache(llama.spec().config.num_hidden_layers);
    std::vector<int32_t> fresh = text;
    bool ended = false;
    while (text.size() < 20) {
      const ag::Tensor logits = llama.logits(
          ag::Tensor::from_host<int32_t>({static_cast<int64_t>(fresh.size())}, fresh), 1, &cache);
      const std::vector<float> all = logits.to_host<float>();
      const auto last = all.end() - logits.cols();
      const auto best = static_cast<int32_t>(std::max_element(last, all.end()) - last);
      text.push_back(ended ? 0 : best);
      const auto& eos = llama.spec().config.eos_token_ids;
      ended = ended || std::find(eos.begin(), eos.end(), best) != eos.end();
      fresh = {best};
    }
    EXPECT_EQ(text, std::vector<int32_t>(rows.begin() + b * 20, rows.begin() + (b + 1) * 20))
        << "row " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Golden,
                         testing::Values("llama-mha", "llama-gqa-tied", "llama-headdim-bias",
                                         "llama-rope-dynamic", "llama-rope-linear",
                                         "llama-rope-llama3", "llama-rope-yarn", "mistral", "qwen2",
                                         "qwen3"),
                         test_support::fixture_test_name);
INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenGeneration,
                         testing::Values("llama-mha", "llama-gqa-tied", "llama-headdim-bias",
                                         "llama-rope-linear", "llama-rope-llama3",
                                         "llama-rope-yarn", "mistral", "qwen2", "qwen3"),
                         test_support::fixture_test_name);

}  // namespace
}  // namespace model
