// The parity report of a conversion, and the verb's rules about what is needed.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/temporary_folder.h"
#include "trainer/models/parity.h"

#include "tests/support/mla_golden.h"
#include "trainer/models/id_source.h"

namespace {

using namespace trainer;
using namespace test_support;
using model::LatentMethod;
using model::RopeScore;
using model::RopeStrategy;

const char kMhaFixture[] = "llama-mha";  // d 48, 4 kv heads of 12, 2 layers

model::Model mha_source() { return model::import_hf(test_support::fixture_path(kMhaFixture)); }

TEST(Parity, CacheParametersAndErrors) {
  const model::Model before = mha_source();
  const model::Conversion conversion = model::convert(
      before, {{RopeStrategy::high, 2, 0}, RopeScore::product, LatentMethod::joint, 5}, nullptr);
  const ParityReport report = compare_specs(before.spec, conversion.model.spec, conversion.layers);
  EXPECT_EQ(report.cache_bytes_per_token.before, 2 * 2 * (2 * 4 * 12));
  EXPECT_EQ(report.cache_bytes_per_token.after, 2 * 2 * (4 * 2 * 2 + 4 * 5));
  int64_t dense = 0, latent = 0;
  for (const auto& [path, weight] : before.weights) dense += weight.numel();
  for (const auto& [path, weight] : conversion.model.weights) latent += weight.numel();
  EXPECT_EQ(report.parameters.before, dense);
  EXPECT_EQ(report.parameters.after, latent);
  EXPECT_FALSE(report.truncates_nothing());
  const nlohmann::json json = to_json(report);
  EXPECT_TRUE(json.at("loss_before").is_null());
  ASSERT_EQ(json.at("layers").size(), 2u);
  const std::vector<double> golden_error =
      test_support::doubles(test_support::mla_golden(kMhaFixture, "kv_error.high.r2.joint.c5"));
  for (size_t l = 0; l < 2; ++l) {
    EXPECT_NEAR(json.at("layers")[l].at("reconstruction_error"), golden_error[l], 1e-6);
    EXPECT_NEAR(json.at("layers")[l].at("relative_error"),
                golden_error[l] / conversion.layers[l].norm, 1e-9);
    const nlohmann::json spectrum = json.at("layers")[l].at("spectra").at(0);
    const auto values = spectrum.at("singular_values").get<std::vector<double>>();
    ASSERT_EQ(values.size(), 48u);
    double lost = 0;
    for (size_t i = spectrum.at("kept"); i < values.size(); ++i) lost += values[i] * values[i];
    EXPECT_NEAR(std::sqrt(lost), golden_error[l], 1e-5 * golden_error[l]) << "six digits";
  }
  EXPECT_NEAR(json.at("cache_bytes_per_token").at("change_percent"), 100.0 * (36.0 / 96 - 1), 1e-9);
  const std::string text = to_text(report);
  EXPECT_NE(text.find("-62.50 %"), std::string::npos) << text;
}

TEST(Parity, SaysWhenNothingIsLost) {
  const model::Model before = mha_source();
  const auto report = [&](RopeStrategy rope, int64_t r, LatentMethod method, int64_t c) {
    const model::Conversion conversion =
        model::convert(before, {{rope, r, 0}, RopeScore::product, method, c}, nullptr);
    return compare_specs(before.spec, conversion.model.spec, conversion.layers);
  };
  const ParityReport exact = report(RopeStrategy::full, 6, LatentMethod::joint, 12);
  EXPECT_TRUE(exact.is_exact());
  EXPECT_NE(to_text(exact).find("the same function"), std::string::npos);
  const ParityReport partial = report(RopeStrategy::low, 3, LatentMethod::joint, 12);
  EXPECT_TRUE(partial.truncates_nothing());
  EXPECT_FALSE(partial.is_exact());
  EXPECT_TRUE(report(RopeStrategy::full, 6, LatentMethod::none, 0).is_exact());
  EXPECT_FALSE(report(RopeStrategy::full, 6, LatentMethod::joint, 11).truncates_nothing());
}

TEST(Parity, LossBeforeAndAfterOnTheSameIds) {
  const TemporaryFolder folder;
  const model::Model before = mha_source();
  model::write_safetensors(folder / "ids.safetensors",
                           {{"input_ids", test_support::mla_golden(kMhaFixture, "input_ids")}});
  const auto sets =
      open_windows({.data = {}, .ids = folder / "ids.safetensors"}, before.spec.config);
  for (const test_support::MlaVariant& v : test_support::mla_variants(kMhaFixture)) {
    if (v.options.rope.strategy == RopeStrategy::two_norm) continue;
    const model::Conversion conversion = model::convert(before, v.options, nullptr);
    ParityReport report = compare_specs(before.spec, conversion.model.spec, conversion.layers);
    model::MemoryReader source(before), converted(conversion.model);
    report.loss = {.before = loss_of(source, sets, 1, "before"),
                   .after = loss_of(converted, sets, 1, "after")};
    const nlohmann::json json = to_json(report);
    EXPECT_NEAR(json.at("loss_before"),
                test_support::doubles(test_support::mla_golden(kMhaFixture, "loss_source"))[0],
                1e-5);
    EXPECT_NEAR(json.at("loss_after"), v.loss, 1e-4) << v.name;
  }
}

}  // namespace
