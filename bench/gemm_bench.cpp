// The bf16 matrix products of one training step, backend by backend in turn in one run:
//   build/release/bench/gemm_bench                          SmolLM-135M with MLA, 2048 tokens
//   build/release/bench/gemm_bench --shape tiny-llama --tokens 1024
// Per product and summed over the step: medians and fast deciles (the tenth of the rounds that went
// best). `program` is what a training step runs, the others are one library or kernel alone.
// Weights and weight gradients come from memory, as in a step; activations are few enough for the
// caches.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "autograd/core/tensor.h"
#include "autograd/kernels/cpu/gemm_onednn.h"
#include "bench/step_case.h"

namespace {

using namespace bench;

enum class Kind { forward, dgrad, wgrad };
constexpr std::array kKinds{Kind::forward, Kind::dgrad, Kind::wgrad};
constexpr std::array kKindNames{"forward", "dgrad", "wgrad"};

// y [N, F] = x [N, K] w^T [F, K] and its two gradients.
struct Layer {
  const char* name;
  int64_t features, inputs, calls;  // F, K, per step
  bool residual;                    // y f32, added to
  bool shared_input;                // dx is added to
  int64_t rows;                     // N of one call
  bool head = false;                // y f32
};

struct Backend {
  const char* name;
  decltype(ag::Kernels::gemm) gemm;
  std::vector<double> seconds;  // of the product at hand, round by round
};

// The linear layers of a step; the widths are those of bench::random_model.
std::vector<Layer> layers_of(const std::string& shape, int64_t tokens, int64_t chunk) {
  const model::LlamaConfig c = config_of(shape);
  const int64_t d = c.hidden_size, heads = c.num_attention_heads, groups = c.num_key_value_heads;
  const int64_t head_dim = c.head_dim, rope = 2 * (head_dim / 16) * groups;
  const int64_t values = groups * head_dim, latent = groups * (head_dim / 4);
  const int64_t n = c.num_hidden_layers;
  return {{"q", heads * head_dim, d, n, false, false, tokens},
          {"k_rope", rope, d, n, false, true, tokens},
          {"kv_down", latent, d, n, false, true, tokens},
          {"k_up", values - rope, latent, n, false, false, tokens},
          {"v_up", values, latent, n, false, true, tokens},
          {"o", d, heads * head_dim, n, true, false, tokens},
          {"gate", c.intermediate_size, d, n, false, false, tokens},
          {"up", c.intermediate_size, d, n, false, true, tokens},
          {"down", d, c.intermediate_size, n, true, false, tokens},
          {"head", c.vocab_size, d, tokens / chunk, false, false, chunk, true}};
}

// A store of matrices of which each call takes the next, so that what it takes is not in a cache.
class Ring {
 public:
  Ring(int64_t elements, ag::DType dtype) : store_(ag::Tensor::empty({elements}, dtype)) {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(-0.1F, 0.1F);
    for (int64_t i = 0; i < elements; ++i) {
      if (dtype == ag::DType::bf16) {
        store_.view().row<ag::bf16>(0)[i] = ag::bf16(uniform(random));
      } else {
        store_.view().row<float>(0)[i] = 0;
      }
    }
  }

  ag::View next(int64_t rows, int64_t cols, bool accumulate = false) {
    const int64_t size = (rows * cols + 31) / 32 * 32;
    if (begin_ + size > store_.numel()) begin_ = 0;
    std::byte* data =
        static_cast<std::byte*>(store_.view().data) + begin_ * size_of(store_.dtype());
    begin_ += size;
    return {data, rows, cols, cols, store_.dtype(), accumulate};
  }

 private:
  ag::Tensor store_;
  int64_t begin_ = 0;
};

struct Operands {
  Ring weights, gradients, activations, wide_activations;
};

double timed(const Backend& backend, const Layer& layer, Kind kind, Operands& from) {
  const int64_t n = layer.rows, f = layer.features, k = layer.inputs;
  Clock::time_point start;
  switch (kind) {
    case Kind::forward: {
      const ag::View y = layer.residual || layer.head
                             ? from.wide_activations.next(n, f, layer.residual)
                             : from.activations.next(n, f);
      const ag::View x = from.activations.next(n, k), w = from.weights.next(f, k);
      start = Clock::now();
      backend.gemm(y, x, false, w, true);
      break;
    }
    case Kind::dgrad: {
      const ag::View dx = from.activations.next(n, k, layer.shared_input);
      const ag::View dy = from.activations.next(n, f), w = from.weights.next(f, k);
      start = Clock::now();
      backend.gemm(dx, dy, false, w, false);
      break;
    }
    case Kind::wgrad: {
      const ag::View dw = from.gradients.next(f, k, true);
      const ag::View dy = from.activations.next(n, f), x = from.activations.next(n, k);
      start = Clock::now();
      backend.gemm(dw, dy, true, x, false);
      break;
    }
  }
  return seconds_since(start);
}

// Each backend once per round, after one round that warms up.
void measure(const Layer& layer, Kind kind, int rounds, std::vector<Backend>& backends,
             Operands& operands) {
  for (Backend& backend : backends) backend.seconds.clear();
  for (int round = 0; round <= rounds; ++round) {
    for (Backend& backend : backends) {
      const double seconds = timed(backend, layer, kind, operands);
      if (round > 0) backend.seconds.push_back(seconds);
    }
  }
}

double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

struct Sums {
  double median = 0, fast = 0, flops = 0;
};

void print_row(const std::string& name, Kind kind, double calls, double flops,
               const std::vector<Backend>& backends, std::vector<Sums>& sums) {
  fmt::print("{:<9} {:<8} {:>5.0f}", name, kKindNames[static_cast<size_t>(kind)], calls);
  for (size_t i = 0; i < backends.size(); ++i) {
    const double median = quantile(backends[i].seconds, 0.5);
    const double fast = quantile(backends[i].seconds, 0.1);
    fmt::print(" | {:>8.3f} {:>8.3f} {:>5.0f} {:>5.0f}", 1e3 * median, 1e3 * fast,
               1e-9 * flops / median, 1e-9 * flops / fast);
    sums[i].median += calls * median;
    sums[i].fast += calls * fast;
    sums[i].flops += calls * flops;
  }
  fmt::print("\n");
  std::fflush(stdout);
}

void print_sums(const std::vector<Backend>& backends, const std::vector<Sums>& sums) {
  for (size_t i = 0; i < backends.size(); ++i) {
    fmt::print(
        "{}: all products of a step {:.1f} ms median ({:.0f} GFLOP/s), {:.1f} ms fast "
        "decile ({:.0f})\n",
        backends[i].name, 1e3 * sums[i].median, 1e-9 * sums[i].flops / sums[i].median,
        1e3 * sums[i].fast, 1e-9 * sums[i].flops / sums[i].fast);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The bf16 matrix products of a training step, by backend"};
  std::string shape = "smollm-135m", only;
  int64_t tokens = 2048, chunk = 512;
  int threads = 2, rounds = 20;
  app.add_option("--shape", shape, "tiny-llama | smollm-135m");
  app.add_option("--tokens", tokens, "tokens of a micro-batch");
  app.add_option("--chunk", chunk, "rows of the output head at a time");
  app.add_option("--rounds", rounds, "measurements of each product");
  app.add_option("--threads", threads, "threads");
  app.add_option("--only", only, "one layer by name");
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  fmt::print("{}\n", ag::describe_backend());

  std::vector<Backend> backends{{"program", ag::cpu_kernels(ag::active_isa()).gemm, {}}};
  if (ag::active_isa() >= ag::Isa::avx512) backends.push_back({"oneDNN", ag::one_dnn_gemm, {}});
  const int64_t head = config_of(shape).vocab_size * config_of(shape).hidden_size;
  chunk = std::min(chunk, tokens);
  const int64_t wide = chunk * config_of(shape).vocab_size;
  Operands operands{{2 * head, ag::DType::bf16},
                    {2 * head, ag::DType::f32},
                    {2 * wide, ag::DType::bf16},
                    {2 * wide, ag::DType::f32}};
  fmt::print("{:<9} {:<8} {:>5}", "product", "kind", "calls");
  for (const Backend& backend : backends) {
    fmt::print(" | {:>8} ms  fast ms {:>5} {:>5}", backend.name, "GF/s", "fast");
  }
  fmt::print("\n");
  std::vector<Sums> sums(backends.size());
  for (const Layer& layer : layers_of(shape, tokens, chunk)) {
    if (!only.empty() && only != layer.name) continue;
    for (const Kind kind : kKinds) {
      measure(layer, kind, rounds, backends, operands);
      const double flops = 2.0 * static_cast<double>(layer.rows * layer.features) *
                           static_cast<double>(layer.inputs);
      print_row(layer.name, kind, static_cast<double>(layer.calls), flops, backends, sums);
    }
  }
  print_sums(backends, sums);
  return 0;
}
