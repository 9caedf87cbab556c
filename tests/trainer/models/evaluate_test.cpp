// Held-out loss: the protocol on a golden model, sources of ids, and how two models agree.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/evaluate.h"

#include "core/error.h"
#include "tests/support/mla_golden.h"
#include "trainer/models/agreement.h"
#include "trainer/models/id_source.h"

namespace {

using namespace trainer;
using namespace test_support;
using test_support::golden;

const char kFixture[] = "llama-gqa-tied";

model::Model source() { return model::import_hf(test_support::fixture_path(kFixture)); }

// The golden ids as an ids file, `copies` of them one below the other.
ag::Tensor repeated_ids(int64_t copies) {
  const ag::Tensor ids = golden(kFixture, "input_ids");
  std::vector<int32_t> all;
  for (int64_t i = 0; i < copies; ++i) {
    const std::vector<int32_t> one = ids.to_host<int32_t>();
    all.insert(all.end(), one.begin(), one.end());
  }
  return ag::Tensor::from_host<int32_t>({copies * ids.rows(), ids.cols()}, all);
}

TEST(Evaluate, MeanOverTheShiftedTargetsOfEveryWindow) {
  const TemporaryFolder folder;
  const ag::Tensor ids = repeated_ids(3);
  model::write_safetensors(folder / "ids.safetensors", {{"input_ids", ids}});
  const model::Model model = source();
  const auto sets =
      open_windows({.data = {}, .ids = folder / "ids.safetensors"}, model.spec.config);
  ASSERT_EQ(sets.size(), 1u);
  model::Llama llama(model, {});
  const double want = test_support::doubles(golden(kFixture, "loss_f64"))[0];
  for (const int64_t batch : {1, 2, 4, 100}) {
    std::vector<int64_t> progress;
    const SetResult result =
        evaluate(llama, sets[0], batch, nullptr, [&](int64_t done) { progress.push_back(done); });
    EXPECT_NEAR(result.nll, want, 1e-5) << "batch " << batch;
    EXPECT_EQ(result.ppl, std::exp(result.nll));
    EXPECT_EQ(result.tokens, ids.rows() * (ids.cols() - 1));
    EXPECT_EQ(progress.back(), ids.rows());
  }
}

TEST(Evaluate, WindowsOfAShardAndTheirMean) {
  const TemporaryFolder folder;
  const model::Model model = source();
  const std::vector<int32_t> ids = repeated_ids(1).to_host<int32_t>();
  std::string bytes;
  for (const int32_t id : ids) {
    bytes += static_cast<char>(id & 255);
    bytes += static_cast<char>(id >> 8);
  }
  spill(folder / "prose.ds", bytes);
  model::Llama llama(model, {.compute = ag::DType::f64});
  const int64_t s = 7;
  const data::EvalWindows windows(folder / "prose.ds", model.spec.config.vocab_size, s, 5);
  const SetResult result = evaluate(llama, windows, "prose", 2, nullptr);
  double sum = 0;
  for (int64_t w = 0; w < 5; ++w) {
    const ag::Tensor row = ag::Tensor::from_host<int32_t>(
        {1, s}, std::vector<int32_t>(ids.begin() + w * s, ids.begin() + (w + 1) * s));
    sum += test_support::ShiftedIds(row).mean_loss(llama);
  }
  EXPECT_NEAR(result.nll, sum / 5, 1e-12);
  EXPECT_EQ(result.name, "prose");
  EXPECT_EQ(result.tokens, 5 * (s - 1));
  EXPECT_EQ(result.protocol, "disjoint windows of 7 ids, 6 targets each, 5 windows");
  EXPECT_FAILS(kBadConfig, "batch", evaluate(llama, windows, "prose", 0, nullptr));
}

TEST(Evaluate, SetsCombineByTheirTargets) {
  const SetResult all = combine({{.name = "a", .nll = 1, .tokens = 30, .protocol = "p"},
                                 {.name = "b", .nll = 4, .tokens = 10, .protocol = "p"}});
  EXPECT_DOUBLE_EQ(all.nll, 1.75);
  EXPECT_EQ(all.tokens, 40);
  EXPECT_DOUBLE_EQ(all.ppl, std::exp(1.75));
  EXPECT_EQ(all.protocol, "p");
}

TEST(IdSource, WarnsOfSequencesThatTheModelWasNotMadeFor) {
  model::LlamaConfig config;
  config.max_position_embeddings = 64;
  EXPECT_EQ(warning_of_length("sequence length", 64, config), "");
  EXPECT_EQ(
      warning_of_length("sequence length", 65, config),
      "warning: sequence length: 65 is more than the 64 positions that the model was made for");
}

TEST(IdSource, RefusesWhatIsNotOfThisModel) {
  const TemporaryFolder folder;
  const model::LlamaConfig config = source().spec.config;
  const auto write = [&](const ag::Tensor& ids) {
    model::write_safetensors(folder / "ids.safetensors", {{"input_ids", ids}});
    return folder / "ids.safetensors";
  };
  const auto last = static_cast<int32_t>(config.vocab_size - 1);
  EXPECT_EQ(read_ids(write(ag::Tensor::from_host<int32_t>({1, 2}, std::vector<int32_t>{0, last})),
                     config.vocab_size)
                .numel(),
            2);
  const auto two_rows = [](int32_t x) {
    return ag::Tensor::from_host<int32_t>({2, 3}, std::vector<int32_t>{0, 1, 2, 3, 4, x});
  };
  EXPECT_FAILS(kBadData, "row 1 column 2", read_ids(write(two_rows(last + 1)), config.vocab_size));
  EXPECT_FAILS(kBadData, "row 1 column 2", read_ids(write(two_rows(-1)), config.vocab_size));
  EXPECT_FAILS(kBadData, "I32 or I64 [B, S]",
               read_ids(write(two_rows(5).reshaped({6})), config.vocab_size));
  EXPECT_FAILS(kBadData, "I32 or I64 [B, S]",
               read_ids(write(ag::Tensor::zeros({2, 3}, ag::DType::f32)), config.vocab_size));
  EXPECT_FAILS(kUsage, "neither", open_windows({}, config));
  EXPECT_FAILS(kUsage, "both", open_windows({.data = {"a.ds"}, .ids = "b"}, config));
}

TEST(Agreement, ByHand) {
  // p = (1/2, 1/2), q = (3/4, 1/4); the second position agrees.
  const std::vector<float> a = {0, 0, 2, 0}, b = {std::log(3.0f), 0, 2, 0};
  const std::vector<int32_t> ids = {0, 1};
  Agreement agreement;
  agreement.add(a, b, ids, 2);
  EXPECT_EQ(agreement.positions(), 2);
  EXPECT_EQ(agreement.targets(), 1);
  EXPECT_NEAR(agreement.max_difference(), std::log(3.0), 1e-6);
  EXPECT_NEAR(agreement.mean_difference(), std::log(3.0) / 4, 1e-6);
  EXPECT_NEAR(agreement.kl(), 0.5 * (0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0)), 1e-6);
  EXPECT_NEAR(agreement.nll_a(), std::log(2.0), 1e-6);
  EXPECT_NEAR(agreement.nll_b(), std::log(4.0), 1e-6);
  EXPECT_EQ(agreement.top1_agreement(), 1.0);
  Agreement in_parts;  // one position at a time; the target of the first is in the second part
  in_parts.add(std::span(a).first(2), std::span(b).first(2), ids, 1);
  in_parts.add(std::span(a).last(2), std::span(b).last(2), std::span(ids).last(1), 1);
  EXPECT_EQ(in_parts.targets(), 1);
  EXPECT_EQ(in_parts.nll_b(), agreement.nll_b());
  EXPECT_EQ(in_parts.kl(), agreement.kl());
  agreement.add(std::vector<float>{0, 1}, std::vector<float>{1, 0}, std::vector<int32_t>{0}, 1);
  EXPECT_NEAR(agreement.top1_agreement(), 2.0 / 3, 1e-12);
}

TEST(Agreement, BitsOfTwoModels) {
  const model::Model a = source();
  EXPECT_TRUE(compare_bits(a, source()).empty());
  model::Model b = source();
  std::vector<float> norm = b.weights.at("norm.weight").to_host<float>();
  norm[3] = std::nextafter(norm[3], 10.0f);
  b.weights.insert_or_assign(
      "norm.weight", ag::Tensor::from_host<float>({static_cast<int64_t>(norm.size())}, norm));
  b.weights.insert_or_assign("layers.0.attn.q.weight", ag::Tensor::zeros({2, 3}, ag::DType::f32));
  b.weights.erase("layers.1.attn.q.weight");
  b.spec.attention[0].kept_pairs[1].pop_back();
  const auto list = compare_bits(a, b);
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].tensor + list[0].difference,
            "layers.0.attn.q.weightfloat32 [48, 48] in A, float32 [2, 3] in B");
  EXPECT_EQ(list[1].tensor + list[1].difference, "layers.1.attn.q.weightonly in A");
  EXPECT_EQ(list[2].tensor + list[2].difference, "norm.weight1 of 48 elements differ");
  EXPECT_EQ(list[3].tensor, "kept_pairs");
}

}  // namespace
