// Calibration against an independent float64 implementation, and the statistics file.
#include "model/calibrate.h"

#include "tests/support/mla_golden.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::calibrated;
using test_support::expect_refusal;
using test_support::mla_golden;

// Largest |a - b| / |b|.
double worst_relative(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return worst;
}

class Calibrate : public testing::TestWithParam<std::string> {
 protected:
  Model source() const { return import_hf(test_support::fixture_path(GetParam())); }
  std::vector<double> want(const char* score) const {
    return test_support::doubles(mla_golden(GetParam(), score));
  }
};

TEST_P(Calibrate, ScoresInFloat64) {
  const PairNorms norms = calibrated(source(), GetParam(), ag::DType::f64);
  EXPECT_LE(worst_relative(norms.score(RopeScore::product), want("score_product")), 1e-6);
  EXPECT_LE(worst_relative(norms.score(RopeScore::sum), want("score_sum")), 1e-6);
  EXPECT_GT(worst_relative(norms.score(RopeScore::sum), want("score_product")), 1e-2)
      << "the two scores must be told apart";
}

TEST_P(Calibrate, ScoresInFloat32AsTheProgramComputesThem) {
  const PairNorms norms = calibrated(source(), GetParam(), ag::DType::f32);
  const double product = worst_relative(norms.score(RopeScore::product), want("score_product"));
  const double sum = worst_relative(norms.score(RopeScore::sum), want("score_sum"));
  RecordProperty("worst_relative_product", std::to_string(product));
  EXPECT_LE(product, 1e-5);
  EXPECT_LE(sum, 1e-5);
}

TEST_P(Calibrate, DoesNotDependOnHowWindowsAreBatched) {
  Llama llama(source(), {.compute = ag::DType::f64});
  Calibration single(llama.spec());
  const ag::Tensor ids = mla_golden(GetParam(), "calibration_ids");
  for (int64_t b = 0; b < ids.rows(); ++b) {
    ag::Tape tape(ag::Tape::Mode::kOff);
    llama.hidden(tape, ids.slice(b * ids.cols(), {ids.cols()}), 1, nullptr, single.observer());
  }
  EXPECT_EQ(single.tokens(), ids.numel());
  const PairNorms together = calibrated(source(), GetParam(), ag::DType::f64);
  EXPECT_LE(worst_relative(single.pair_norms().query, together.query), 1e-13);
  EXPECT_LE(worst_relative(single.pair_norms().key, together.key), 1e-13);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Calibrate, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

TEST(Statistics, WhatIsWrittenIsRead) {
  const test_support::TemporaryFolder folder;
  const Model source = import_hf(test_support::fixture_path("llama-gqa-tied"));
  const PairNorms norms = calibrated(source, "llama-gqa-tied", ag::DType::f32);
  const auto path = folder.path() / "stats.safetensors";
  write_statistics(path, norms, "the-hash", 64, "prose.ds");
  const PairNorms read = read_statistics(path, source.spec.config, "the-hash");
  EXPECT_EQ(read.query, norms.query);
  EXPECT_EQ(read.key, norms.key);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.load("score_sum").to_host<double>(), norms.score(RopeScore::sum));
  EXPECT_EQ(file.load("score_product").to_host<double>(), norms.score(RopeScore::product));
  EXPECT_EQ(file.metadata().at("tokens"), "64");
  EXPECT_EQ(file.metadata().at("data"), "prose.ds");
  expect_refusal(ExitCode::kBadConfig, "another-hash (this model)",
                 [&] { read_statistics(path, source.spec.config, "another-hash"); });
  LlamaConfig other = source.spec.config;
  other.num_hidden_layers = 3;
  expect_refusal(ExitCode::kBadData, "query_norm",
                 [&] { read_statistics(path, other, "the-hash"); });
}

TEST(Statistics, RefusesValuesThatAreNoNorms) {
  const test_support::TemporaryFolder folder;
  LlamaConfig config;
  config.num_hidden_layers = config.num_attention_heads = config.num_key_value_heads = 1;
  config.head_dim = 4;
  const auto path = folder.path() / "stats.safetensors";
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -1.0}) {
    write_statistics(path, {1, 1, 2, {1, 2}, {3, bad}}, "the-hash", 64, "prose.ds");
    expect_refusal(ExitCode::kBadData, "key_norm: error: values: expected finite norms",
                   [&] { read_statistics(path, config, "the-hash"); });
  }
}

TEST(Statistics, ConvertedModelsAreNotCalibrated) {
  const Model source = import_hf(test_support::fixture_path("llama-mha"));
  const ConversionOptions options{
      {RopeStrategy::high, 2, 0}, RopeScore::product, LatentMethod::joint, 4};
  const ModelSpec converted = converted_spec(source.spec, options, nullptr);
  expect_refusal(ExitCode::kBadConfig, "an unconverted model", [&] { Calibration c(converted); });
}

}  // namespace
}  // namespace model
