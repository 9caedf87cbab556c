// What `validate` says a run will need, beside what the pool counts while it trains.
#include "trainer/step/memory.h"

#include <gtest/gtest.h>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"

namespace trainer {
namespace {

using test_support::Training;

constexpr int64_t kWords = 1024;

// Four layers of the shape of a small Llama, all weights alike.
model::Model model_of(bool latent) {
  model::LlamaConfig c;
  c.vocab_size = kWords;
  c.hidden_size = 192;
  c.intermediate_size = 512;
  c.num_hidden_layers = 4;
  c.num_attention_heads = c.num_key_value_heads = 6;
  c.head_dim = 32;
  c.max_position_embeddings = 512;
  c.tie_word_embeddings = true;
  model::ModelSpec spec = model::ModelSpec::unconverted(c);
  if (latent) {
    model::ConversionOptions options;
    options.rope = {.strategy = model::RopeStrategy::high, .pairs_per_head = 2, .uniform_start = 0};
    options.latent_dims_per_kv_head = 8;
    spec = model::converted_spec(spec, options, nullptr);
  }
  model::Weights weights;
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    const std::vector<float> values(static_cast<size_t>(p.shape.numel()), 0.01F);
    weights.emplace(p.path, ag::Tensor::from_host<float>(p.shape, values));
  }
  return {spec, weights};
}

class Memory : public testing::Test {
 protected:
  void SetUp() override {
    ag::set_threads(1);
    test_support::write_shard(folder_.path() / "train", 20000, kWords);
    config_ = test_support::small_config(folder_.path() / "train.ds");
    config_.tokens = {
        .sequence_length = 128, .micro_batch_size = 4, .global_batch_size = 8, .train_steps = 3};
    config_.parallelism.reduction_shards = 2;
  }

  // Highest number of bytes in tensors during a step.
  int64_t measured_peak(const model::Model& model) const {
    const int64_t before = ag::Pool::statistics().live_bytes;
    Training training(config_, model);
    training.steps(1);  // makes what stays: tables, buffers
    ag::Pool::reset_peak();
    training.steps(1);
    return ag::Pool::statistics().peak_bytes - before;
  }

  void expect_predicted(const model::Model& model) const {
    constexpr double kTolerance = 0.02;
    const MemoryEstimate estimate = estimate_memory(config_, model.spec, 1);
    const auto predicted = static_cast<double>(estimate.per_rank() - estimate.runtime);
    const auto measured = static_cast<double>(measured_peak(model));
    EXPECT_NEAR(predicted / measured, 1, kTolerance)
        << config_.model.dtype << ", trainable " << config_.model.trainable << ", recompute "
        << config_.parallelism.recompute << ": predicted " << predicted << ", measured "
        << measured;
  }

  test_support::TemporaryFolder folder_;
  Config config_;
};

TEST_F(Memory, PredictsThePeakOfAStep) {
  for (const bool latent : {true, false}) {
    const model::Model model = model_of(latent);
    for (const char* dtype : {"float32", "bfloat16"}) {
      // Elsewhere bf16 is widened for each product.
      if (dtype == std::string("bfloat16") && ag::active_isa() != ag::Isa::amx) continue;
      for (const char* recompute : {"none", "attention", "block"}) {
        for (const char* trainable : {"all", "attention"}) {
          SCOPED_TRACE(latent ? "latent" : "dense");
          config_.model.dtype = dtype;
          config_.model.trainable = trainable;
          config_.parallelism.recompute = recompute;
          expect_predicted(model);
        }
      }
    }
  }
}

TEST_F(Memory, SuggestsTheLargestMicroBatchThatFits) {
  const model::Model model = model_of(true);
  config_.tokens.global_batch_size = 12;
  config_.tokens.micro_batch_size = 12;
  const auto need = [&](int64_t micro) {
    Config c = config_;
    c.tokens.micro_batch_size = micro;
    return estimate_memory(c, model.spec, 2).all(2);
  };
  EXPECT_EQ(fitting_micro_batch(config_, model.spec, 2, need(12)), 6);
  EXPECT_EQ(fitting_micro_batch(config_, model.spec, 2, need(6) - 1), 4);
  EXPECT_EQ(fitting_micro_batch(config_, model.spec, 2, need(1)), 1);
  EXPECT_EQ(fitting_micro_batch(config_, model.spec, 2, need(1) - 1), 0);
}

}  // namespace
}  // namespace trainer
