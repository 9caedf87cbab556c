// Fine-tuning of converted models against an independent float64 implementation: losses and
// gradient norms of five AdamW steps; and of a model whose heads and layers all differ.
#include <gtest/gtest.h>

#include "tests/support/mla_golden.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/model_folder.h"
#include "trainer/step/optimizer.h"

namespace {

using namespace trainer;
using test_support::mla_golden;
using test_support::MlaVariant;
using test_support::ShiftedIds;

struct Course {
  std::vector<double> losses, norms;  // losses: before each step and after the last
};

Course train(const model::Model& start, const ag::Tensor& ids, ag::DType compute, int steps,
             double learning_rate = 1e-3, double weight_decay = 0.01) {
  model::Llama llama(start, {.compute = compute});
  AdamW adamw(llama.params(), {.weight_decay = weight_decay});
  const ShiftedIds batch(ids);
  Course course;
  for (int step = 0; step < steps; ++step) {
    ag::Tensor gradient = llama.params().make_gradient();
    llama.params().select_gradient(gradient);
    ag::Tape tape;
    const double scale = 1 / batch.count();
    const ag::Value loss = llama.loss(tape, batch.inputs, batch.targets, batch.batch,
                                      {.gradient_scale = scale, .row_loss = nullptr});
    course.losses.push_back(loss.data.to_host<double>()[0] / batch.count());
    tape.backward(loss, scale);
    course.norms.push_back(gradient_norm(gradient));
    adamw.step(gradient, learning_rate, clip_scale(course.norms.back(), 1.0));
  }
  course.losses.push_back(batch.mean_loss(llama));
  return course;
}

double worst_relative(const std::vector<double>& a, const ag::Tensor& golden) {
  const std::vector<double> b = golden.to_host<double>();
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::fmax(worst, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return worst;
}

class GoldenTraining : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    source_ = model::import_hf(test_support::fixture_path(GetParam()));
    norms_ = test_support::calibrated(source_, GetParam(), ag::DType::f64);
    for (const MlaVariant& v : test_support::mla_variants(GetParam()))
      if (test_support::has_mla_golden(GetParam(), "train_loss." + v.name)) trained_.push_back(v);
    ASSERT_FALSE(trained_.empty());
  }
  Course course(const MlaVariant& v, ag::DType compute, double rate = 1e-3,
                double decay = 0.01) const {
    return train(model::convert(source_, v.options, &norms_).model,
                 mla_golden(GetParam(), "input_ids"), compute, 5, rate, decay);
  }

  model::Model source_;
  model::PairNorms norms_;
  std::vector<MlaVariant> trained_;
};

TEST_P(GoldenTraining, FiveStepsOfAdamW) {
  for (const MlaVariant& v : trained_) {
    for (const ag::DType compute : {ag::DType::f64, ag::DType::f32}) {
      SCOPED_TRACE(v.name + " " + std::string(ag::name_of(compute)));
      const Course got = course(v, compute);
      EXPECT_LE(worst_relative(got.losses, mla_golden(GetParam(), "train_loss." + v.name)), 1e-4);
      EXPECT_LE(worst_relative(got.norms, mla_golden(GetParam(), "train_grad_norm." + v.name)),
                1e-4);
    }
  }
}

// The golden course can tell a wrong recipe from the right one.
TEST_P(GoldenTraining, AnotherRecipeWouldNotPass) {
  const MlaVariant& v = trained_[0];
  const ag::Tensor want = mla_golden(GetParam(), "train_loss." + v.name);
  EXPECT_GT(worst_relative(course(v, ag::DType::f64, 1.1e-3).losses, want), 1e-4) << "rate";
  EXPECT_GT(worst_relative(course(v, ag::DType::f64, 1e-3, 1.0).losses, want), 1e-4) << "decay";
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenTraining, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

// Every head another number of pairs, every layer another width and method.
TEST(UnevenModel, ConvertsTravelsAndTrains) {
  const test_support::TemporaryFolder folder;
  const auto path = test_support::fixture_path("llama-headdim-bias");
  const model::Model source = model::import_hf(path);
  model::ModelSpec spec = source.spec;
  ASSERT_EQ(spec.attention.size(), 2u);
  ASSERT_EQ(spec.attention[0].kept_pairs.size(), 2u);
  spec.attention[0] = {
      .kept_pairs = {{1}, {0, 3, 7}}, .method = model::LatentMethod::joint, .latent_dims = 9};
  spec.attention[1] = {
      .kept_pairs = {{2, 5, 6, 7}, {}}, .method = model::LatentMethod::split, .latent_dims = 14};
  const model::Conversion conversion = model::convert_to(source, spec);
  EXPECT_EQ(conversion.model.spec, spec);
  // Rotary columns 2 * 4 and 2 * 4; latents 9 and 2 * 14.
  EXPECT_EQ(spec.cache_elements_per_token(), 8 + 9 + 8 + 28);

  save_model(folder / "uneven", conversion.model, path);
  const LoadedModel loaded = load_model(folder / "uneven");
  EXPECT_EQ(loaded.model.spec, spec);
  EXPECT_EQ(loaded.hash, model_hash(conversion.model));

  const Course course =
      train(loaded.model, mla_golden("llama-headdim-bias", "input_ids"), ag::DType::f32, 3);
  ASSERT_EQ(course.losses.size(), 4u);
  for (size_t i = 1; i < course.losses.size(); ++i) {
    EXPECT_TRUE(std::isfinite(course.losses[i]));
    EXPECT_LT(course.losses[i], course.losses[i - 1]);
  }
}

}  // namespace
