// Time and memory of a training step, by phase, on random weights and tokens of a given shape:
//   build/release/bench/step_bench                       all shapes and types, one table
//   build/release/bench/step_bench --shape smollm-135m --dtype bfloat16 --batch 1 --sequence 2048
// Medians over --steps steps after two that warm up.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <random>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "core/text.h"
#include "model/convert.h"
#include "model/llama.h"
#include "trainer/optimizer.h"
#include "trainer/step_log.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Case {
  std::string shape, dtype;
  int64_t batch, sequence;
};

struct Phases {
  double forward, backward, optimizer, total;  // seconds
};

model::LlamaConfig config_of(const std::string& shape) {
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
model::Model random_model(const std::string& shape, bool mla) {
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

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

class StepBench {
 public:
  StepBench(const Case& c, bool mla, model::Recompute recompute)
      : case_(c),
        llama_(random_model(c.shape, mla),
               {.compute = c.dtype == "bfloat16" ? ag::DType::bf16 : ag::DType::f32,
                .recompute = recompute}),
        adamw_(llama_.params(), {}),
        gradient_(llama_.params().make_gradient()) {
    std::mt19937 random(2);
    std::uniform_int_distribution<int32_t> id(
        0, static_cast<int32_t>(llama_.spec().config.vocab_size) - 1);
    std::vector<int32_t> values(static_cast<size_t>(c.batch * c.sequence));
    for (int32_t& v : values) v = id(random);
    ids_ = ag::Tensor::from_host<int32_t>({c.batch * c.sequence}, values);
  }

  Phases step() {
    const auto start = Clock::now();
    gradient_.fill_zero();
    llama_.params().select_gradient(gradient_);
    ag::Tape tape;
    const ag::Value loss = llama_.loss(tape, ids_, ids_, case_.batch);
    const double forward = seconds_since(start);
    tape.backward(loss, 1.0 / static_cast<double>(ids_.numel()));
    const double backward = seconds_since(start) - forward;
    const double norm = trainer::gradient_norm(gradient_);
    adamw_.step(gradient_, 1e-4, trainer::clip_scale(norm, 1.0));
    const double total = seconds_since(start);
    return {forward, backward, total - forward - backward, total};
  }

 private:
  Case case_;
  model::Llama llama_;
  trainer::AdamW adamw_;
  ag::Tensor gradient_, ids_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void run(const Case& c, bool mla, model::Recompute recompute, int64_t steps) {
  ag::Pool::release_cached();
  ag::Pool::reset_peak();
  StepBench bench(c, mla, recompute);
  for (int i = 0; i < 2; ++i) bench.step();
  std::vector<double> forward, backward, optimizer, total;
  for (int64_t i = 0; i < steps; ++i) {
    const Phases p = bench.step();
    forward.push_back(p.forward);
    backward.push_back(p.backward);
    optimizer.push_back(p.optimizer);
    total.push_back(p.total);
  }
  const double step = median(total);
  fmt::print("{:<12} {:<9} {:>2} x {:<5} {:>9.0f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>10}\n",
             c.shape, c.dtype, c.batch, c.sequence,
             static_cast<double>(c.batch * c.sequence) / step, 1e3 * step, 1e3 * median(forward),
             1e3 * median(backward), 1e3 * median(optimizer),
             core::format_bytes(static_cast<uint64_t>(ag::Pool::statistics().peak_bytes)));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Time and memory of a training step"};
  std::string shape, dtype, recompute = "none";
  int64_t batch = 4, sequence = 0, steps = 5;
  int threads = 2;
  bool dense = false;
  app.add_option("--shape", shape, "tiny-llama | smollm-135m (default: both)");
  app.add_option("--dtype", dtype, "float32 | bfloat16 (default: both)");
  app.add_option("--batch", batch, "sequences per step");
  app.add_option("--sequence", sequence,
                 "tokens per sequence (default: 256 tiny-llama, 512 smollm-135m)");
  app.add_option("--steps", steps, "steps measured, after two that warm up");
  app.add_option("--threads", threads, "threads");
  app.add_option("--recompute", recompute, "none | attention | block");
  app.add_flag("--dense", dense, "the unconverted model instead of MLA");
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  fmt::print("{}\n", ag::describe_backend());
  fmt::print("{:<12} {:<9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}\n", "shape", "dtype",
             "batch x S", "tokens/s", "step ms", "forward", "backward", "optimizer", "peak");
  for (const std::string s : {"tiny-llama", "smollm-135m"}) {
    for (const std::string d : {"float32", "bfloat16"}) {
      if ((!shape.empty() && shape != s) || (!dtype.empty() && dtype != d)) continue;
      const int64_t length = sequence > 0 ? sequence : s == "tiny-llama" ? 256 : 512;
      run({s, d, batch, length}, !dense,
          recompute == "block"       ? model::Recompute::block
          : recompute == "attention" ? model::Recompute::attention
                                     : model::Recompute::none,
          steps);
    }
  }
  return 0;
}
