// Rope types as the model uses them: partial RoPE of models with QK-norm and with yarn against an
// independent float64 forward (partial_golden.safetensors), dynamic rope inside and beyond the
// context, and what a model with QK-norm cannot become.
#include "model/rope.h"

#include "model/calibrate.h"
#include "tests/support/mla_golden.h"
#include "tests/support/refusal.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::expect_refusal;
using test_support::flat;
using test_support::golden;
using test_support::max_relative_distance;

Model fixture(const std::string& name) { return import_hf(test_support::fixture_path(name)); }

ConversionOptions rope_only(RopeStrategy strategy, int64_t pairs) {
  return {.rope = {strategy, pairs, 0}, .method = LatentMethod::none};
}

class PartialRope : public testing::TestWithParam<std::string> {};

TEST_P(PartialRope, AgreesWithAnIndependentForward) {
  const Model source = fixture(GetParam());
  const ag::Tensor ids = golden(GetParam(), "input_ids");
  const int64_t half = source.spec.config.pairs() / 2;
  for (const auto& [strategy, pairs] : {std::pair{RopeStrategy::uniform, half},
                                        {RopeStrategy::high, int64_t{3}},
                                        {RopeStrategy::low, int64_t{2}}}) {
    Llama llama(convert(source, rope_only(strategy, pairs), nullptr).model,
                {.compute = ag::DType::f64});
    const std::string name = "logits." + to_string(strategy) + ".r" + std::to_string(pairs);
    const ag::Tensor want = golden(GetParam(), name, "partial_golden.safetensors");
    const ag::Tensor logits = llama.logits(flat(ids), ids.rows());
    EXPECT_LE(max_relative_distance(logits.reshaped(want.shape()), want), 1e-12) << name;
  }
}

TEST_P(PartialRope, CacheEqualsFullForward) {
  const Model source = fixture(GetParam());
  Llama llama(convert(source, rope_only(RopeStrategy::high, 3), nullptr).model, {});
  const ag::Tensor ids = golden(GetParam(), "input_ids");
  const ag::Tensor row = ids.slice(0, {ids.cols()});
  const ag::Tensor full = llama.logits(row, 1);
  Cache cache(source.spec.config.num_hidden_layers);
  for (int64_t t = 0; t < row.numel(); ++t) {
    const ag::Tensor logits = llama.logits(row.slice(t, {1}), 1, &cache);
    EXPECT_LE(max_relative_distance(logits, full.slice(t * full.cols(), {1, full.cols()})), 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, PartialRope, testing::Values("qwen3", "llama-rope-yarn"),
                         test_support::fixture_test_name);

// A latent that loses nothing gives the source's function: yarn's factor holds for all columns,
// those without rotation included.
TEST(YarnRope, FullRankLatentKeepsTheFunction) {
  const Model source = fixture("llama-rope-yarn");
  const ConversionOptions options = {.rope = {RopeStrategy::full, source.spec.config.pairs(), 0},
                                     .method = LatentMethod::joint,
                                     .latent_dims_per_kv_head = source.spec.config.head_dim};
  Llama before(source, {.compute = ag::DType::f64});
  Llama after(convert(source, options, nullptr).model, {.compute = ag::DType::f64});
  const ag::Tensor ids = golden("llama-rope-yarn", "input_ids");
  // The factors are stored in float32.
  EXPECT_LE(max_relative_distance(after.logits(flat(ids), ids.rows()),
                                  before.logits(flat(ids), ids.rows())),
            1e-5);
}

TEST(DynamicRope, IsTheStandardOneWithinTheContext) {
  const LlamaConfig c = fixture("llama-rope-dynamic").spec.config;
  RopeParameters standard = c.rope;
  standard.type = RopeParameters::Type::standard;
  const std::vector<double> plain = inverse_frequencies(standard, c.head_dim, 0);
  EXPECT_EQ(inverse_frequencies(c.rope, c.head_dim, 1), plain);
  EXPECT_EQ(inverse_frequencies(c.rope, c.head_dim, 16), plain);
  const std::vector<double> longer = inverse_frequencies(c.rope, c.head_dim, 17);
  EXPECT_EQ(longer[0], 1);  // the fastest pair never changes
  for (size_t k = 1; k < plain.size(); ++k) EXPECT_LT(longer[k], plain[k]);
  // The slowest pair is slowed down by factor * length / context - (factor - 1).
  EXPECT_NEAR(plain.back() / inverse_frequencies(c.rope, c.head_dim, 40).back(), 2.0 * 40 / 16 - 1,
              1e-12);
}

TEST(DynamicRope, DecodingTurnsNewTokensByTheLengthSoFar) {
  const Model source = fixture("llama-rope-dynamic");
  Llama llama(source, {});
  const ag::Tensor row = golden("llama-rope-dynamic", "input_ids").slice(0, {24});
  const auto logits_of = [&](const std::vector<int64_t>& pieces) {
    Cache cache(source.spec.config.num_hidden_layers);
    ag::Tensor last;
    int64_t done = 0;
    for (const int64_t n : pieces) {
      last = llama.logits(row.slice(done, {n}), 1, &cache);
      done += n;
    }
    return last.slice((last.rows() - 1) * last.cols(), {1, last.cols()});
  };
  const auto one_pass = [&](int64_t n) {
    const ag::Tensor all = llama.logits(row.slice(0, {n}), 1);
    return all.slice((n - 1) * all.cols(), {1, all.cols()});
  };
  // Within the context, and when the whole text comes at once, the cache changes nothing.
  EXPECT_LE(max_relative_distance(logits_of({10, 1, 1, 4}), one_pass(16)), 1e-4);
  EXPECT_LE(max_relative_distance(logits_of({24}), one_pass(24)), 1e-4);
  // Beyond it earlier keys stay as they were turned, so this is another text to the model.
  EXPECT_GT(max_relative_distance(logits_of({16, 8}), one_pass(24)), 1e-3);
  // The table of a longer text does not stay behind.
  EXPECT_LE(max_relative_distance(logits_of({10, 1, 1, 4}), one_pass(16)), 1e-4);
}

TEST(DynamicRope, BackwardUsesTheAnglesOfItsForward) {
  const Model source = fixture("llama-rope-dynamic");
  const ag::Tensor row = golden("llama-rope-dynamic", "input_ids").slice(0, {40});
  const ag::Tensor inputs = row.slice(0, {39}), targets = row.slice(1, {39});
  const auto gradient = [&](bool other_text_between, Recompute recompute) {
    Llama llama(source, {.recompute = recompute});
    ag::Tensor flat = llama.params().make_gradient();
    llama.params().select_gradient(flat);
    ag::Tape tape;
    const ag::Value loss = llama.loss(tape, inputs, targets, 1);
    if (other_text_between) llama.logits(row.slice(0, {20}), 1);
    tape.backward(loss, 1.0);
    return flat.to_host<float>();
  };
  for (const Recompute recompute : {Recompute::none, Recompute::attention, Recompute::block})
    EXPECT_EQ(gradient(true, recompute), gradient(false, recompute));
}

TEST(QkNorm, HasNoLatentAndNoTwoNorm) {
  const Model source = fixture("qwen3");
  const auto refused = [&](const ConversionOptions& options, const std::string& part) {
    expect_refusal(ExitCode::kBadConfig, part, [&] { convert(source, options, nullptr); });
  };
  refused(rope_only(RopeStrategy::two_norm, 4), "one gain serves all heads");
  for (const LatentMethod method : {LatentMethod::joint, LatentMethod::split})
    refused({.rope = {RopeStrategy::high, 4, 0}, .method = method, .latent_dims_per_kv_head = 4},
            "mla.latent.method: expected none for a model with QK-norm, got " + to_string(method));
  expect_refusal(ExitCode::kBadConfig, "expected a model without QK-norm, got qwen3",
                 [&] { Calibration calibration(source.spec); });
  ModelSpec latent = source.spec;
  latent.attention[1].method = LatentMethod::joint;
  latent.attention[1].latent_dims = 4;
  expect_refusal(ExitCode::kBadData, "no latent with QK-norm",
                 [&] { check_weights(latent, source.weights, "model"); });
}

}  // namespace
}  // namespace model
