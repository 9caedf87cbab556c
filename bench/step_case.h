// The models and the step that the benchmarks measure: random weights and tokens of a given shape.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"
#include "core/trace.h"
#include "model/convert.h"
#include "model/llama.h"
#include "trainer/step/optimizer.h"

namespace bench {

using Clock = std::chrono::steady_clock;

struct Case {
  std::string shape, dtype;  // tiny-llama | smollm-135m, float32 | bfloat16
  int64_t batch, sequence;
};

struct Phases {
  double forward, backward, optimizer, total;  // seconds
  double loss;                                 // nats per token, before the step
};

inline model::LlamaConfig config_of(const std::string& shape) {
  model::LlamaConfig c;
  const bool tiny = shape == "tiny-llama";
  c.vocab_size = tiny ? 8192 : 49152;
  c.hidden_size = tiny ? 192 : 576;
  c.intermediate_size = tiny ? 512 : 1536;
  c.num_hidden_layers = tiny ? 6 : 30;
  c.num_attention_heads = tiny ? 6 : 9;
  c.num_key_value_heads = tiny ? 6 : 3;
  c.head_dim = tiny ? 32 : 64;
  c.max_position_embeddings = 8192;
  c.tie_word_embeddings = true;
  return c;
}

// r and c of the paper's 18.75 % rows: r = D/16 pairs, c = D/4.
inline model::Model random_model(const std::string& shape, bool mla) {
  model::ModelSpec spec = model::ModelSpec::unconverted(config_of(shape));
  if (mla) {
    const int64_t head_dim = spec.config.head_dim;
    model::ConversionOptions options;
    options.rope = {.strategy = model::RopeStrategy::high, .pairs_per_head = head_dim / 16};
    options.latent_dims_per_kv_head = head_dim / 4;
    spec = model::converted_spec(spec, options, nullptr);
  }
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  model::Weights weights;
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    std::vector<float> values(static_cast<size_t>(p.shape.numel()));
    for (float& v : values) v = p.shape.rank() == 1 ? 1.0F : normal(random);
    weights.emplace(p.path, ag::Tensor::from_host<float>(p.shape, values));
  }
  return {spec, weights};
}

using core::seconds_since;

class StepBench {
 public:
  // `ids` are B*S tokens, their own targets; none: random ones.
  StepBench(const Case& c, bool mla, model::Recompute recompute, std::vector<int32_t> ids = {})
      : case_(c),
        llama_(random_model(c.shape, mla),
               {.compute = c.dtype == "bfloat16" ? ag::DType::bf16 : ag::DType::f32,
                .recompute = recompute}),
        adamw_(llama_.params(), {}),
        gradient_(llama_.params().make_gradient()) {
    ag::Pool::release_cached();  // the weights that the model was made from
    if (ids.empty()) {
      std::mt19937 random(2);
      std::uniform_int_distribution<int32_t> id(
          0, static_cast<int32_t>(llama_.spec().config.vocab_size) - 1);
      ids.resize(static_cast<size_t>(c.batch * c.sequence));
      for (int32_t& v : ids) v = id(random);
    }
    ids_ = ag::Tensor::from_host<int32_t>({c.batch * c.sequence}, ids);
  }

  Phases step() {
    const auto start = Clock::now();
    ag::kernels(gradient_.device()).zero(gradient_.view());
    llama_.params().select_gradient(gradient_);
    ag::Tape tape;
    const double scale = 1.0 / static_cast<double>(ids_.numel());
    const ag::Value loss =
        llama_.loss(tape, ids_, ids_, case_.batch, {.gradient_scale = scale, .row_loss = nullptr});
    const double forward = seconds_since(start);
    tape.backward(loss, scale);
    const double backward = seconds_since(start) - forward;
    const double norm = trainer::gradient_norm(gradient_);
    adamw_.step(gradient_, 1e-4, trainer::clip_scale(norm, 1.0));
    const double total = seconds_since(start);
    const double mean_loss = loss.data.to_host<double>()[0] / static_cast<double>(ids_.numel());
    return {forward, backward, total - forward - backward, total, mean_loss};
  }

  model::Llama& model() { return llama_; }
  const model::Llama& model() const { return llama_; }
  trainer::AdamW& optimizer() { return adamw_; }

 private:
  Case case_;
  model::Llama llama_;
  trainer::AdamW adamw_;
  ag::Tensor gradient_, ids_;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace bench
