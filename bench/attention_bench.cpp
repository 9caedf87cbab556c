// Attention of bf16 on AMX tiles beside the AVX-512 kernels, in turn in one run:
//   build/release/bench/attention_bench                     SmolLM-135M, 4 x 512 and 1 x 2048
//   build/release/bench/attention_bench --rounds 100 --calls 30
// Per kernel: medians and fast deciles (the tenth of the rounds that went best) of one call, useful
// GFLOP/s (two products of the visible half of the scores forward, five backward), and the ratio of
// the medians. `--calls` copies of all tensors are used in turn, so that they come from memory as
// in a step of as many layers.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "autograd/core/tensor.h"
#include "autograd/kernels/kernels.h"
#include "core/seconds.h"

namespace {

struct Layer {
  ag::Tensor q, k_rope, k_nope, v, dout, out, lse, dq, dk_rope, dk_nope, dv;
};

ag::Tensor random_rows(int64_t rows, int64_t cols, std::mt19937& engine) {
  ag::Tensor t = ag::Tensor::empty({rows, cols}, ag::DType::bf16);
  std::uniform_real_distribution<float> uniform(-1.7F, 1.7F);
  const ag::View view = t.view();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) view.row<ag::bf16>(i)[j] = ag::bf16(uniform(engine));
  }
  return t;
}

// 9 query heads, 3 kv heads of 64; the rotary part of a key is 8 wide, or all of it.
ag::AttentionShape shape_of(int64_t batch, int64_t tokens, bool mla) {
  const int64_t rope = mla ? 8 : 64;
  ag::AttentionShape s{batch, tokens, tokens, 9, 3, 64, 64, 0.125, {}, {}, {}};
  for (int64_t g = 0; g < s.kv_heads; ++g) {
    s.rope_begin.push_back(g * rope);
    s.rope_width.push_back(rope);
    s.nope_begin.push_back(g * (64 - rope));
  }
  return s;
}

Layer random_layer(const ag::AttentionShape& s, unsigned seed) {
  std::mt19937 engine(seed);
  const int64_t rows = s.batch * s.queries, rope = s.kv_heads * s.rope_width[0];
  Layer x;
  x.q = random_rows(rows, s.heads * s.head_dim, engine);
  x.k_rope = random_rows(rows, rope, engine);
  x.dk_rope = random_rows(rows, rope, engine);
  if (s.rope_width[0] < s.head_dim) {
    x.k_nope = random_rows(rows, s.kv_heads * s.head_dim - rope, engine);
    x.dk_nope = random_rows(rows, s.kv_heads * s.head_dim - rope, engine);
  }
  x.v = random_rows(rows, s.kv_heads * s.value_dim, engine);
  x.dv = random_rows(rows, s.kv_heads * s.value_dim, engine);
  x.dout = random_rows(rows, s.heads * s.value_dim, engine);
  x.out = random_rows(rows, s.heads * s.value_dim, engine);
  x.dq = random_rows(rows, s.heads * s.head_dim, engine);
  x.lse = ag::Tensor::empty({s.batch * s.heads, s.queries}, ag::DType::f32);
  return x;
}

ag::View view(ag::Tensor& t) { return t.defined() ? t.view() : ag::View{}; }

double seconds_of(const ag::Kernels& kernels, Layer& x, const ag::AttentionShape& s,
                  bool backward) {
  const auto start = std::chrono::steady_clock::now();
  if (backward) {
    kernels.attention_backward(x.dq.view(), x.dk_rope.view(), view(x.dk_nope), x.dv.view(),
                               x.dout.view(), x.q.view(), x.k_rope.view(), view(x.k_nope),
                               x.v.view(), x.out.view(), x.lse.view(), s);
  } else {
    kernels.attention_forward(x.out.view(), x.lse.view(), x.q.view(), x.k_rope.view(),
                              view(x.k_nope), x.v.view(), s);
  }
  return core::seconds_since(start);
}

double quantile(std::vector<double>& x, double part) {
  std::sort(x.begin(), x.end());
  return x[static_cast<size_t>(part * static_cast<double>(x.size() - 1))];
}

struct Timings {
  std::vector<double> seconds[2][2];  // [tiles][backward]
};

void print(const std::string& name, Timings& t, double flops) {
  for (const bool backward : {false, true}) {
    const double old_median = quantile(t.seconds[0][backward], 0.5);
    for (const bool tiles : {false, true}) {
      const double median = quantile(t.seconds[tiles][backward], 0.5);
      const double fast = quantile(t.seconds[tiles][backward], 0.1);
      const double work = backward ? 2.5 * flops : flops;
      fmt::print("{:<14} {:<8} {:<6} {:8.2f} {:8.2f} ms {:6.0f} {:6.0f} GFLOP/s {:6.2f}x\n", name,
                 backward ? "backward" : "forward", tiles ? "amx" : "avx512", median * 1e3,
                 fast * 1e3, work / median / 1e9, work / fast / 1e9, old_median / median);
    }
  }
}

void measure(int64_t batch, int64_t tokens, bool mla, int rounds, int calls, bool old) {
  const ag::AttentionShape s = shape_of(batch, tokens, mla);
  std::vector<Layer> layers;
  for (int i = 0; i < calls; ++i) layers.push_back(random_layer(s, static_cast<unsigned>(i)));
  Timings t;
  for (int round = -1; round < rounds; ++round) {  // the first is not counted
    for (const bool tiles : {false, true}) {
      if (!tiles && !old && round >= 0) continue;
      const ag::Kernels& kernels = ag::cpu_kernels(tiles ? ag::Isa::amx : ag::Isa::avx512);
      for (const bool backward : {false, true}) {
        double seconds = 0;
        for (Layer& layer : layers) seconds += seconds_of(kernels, layer, s, backward);
        if (round >= 0 || !old) t.seconds[tiles][backward].push_back(seconds / calls);
      }
    }
  }
  const auto square = static_cast<double>(tokens) * static_cast<double>(tokens);
  const double flops = 2 * square * 64 * static_cast<double>(batch * s.heads);
  print(fmt::format("{}x{} {}", batch, tokens, mla ? "MLA" : "GQA"), t, flops);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Attention on AMX tiles beside AVX-512"};
  int rounds = 20, calls = 1, threads = 2;
  bool new_only = false;
  app.add_option("--rounds", rounds)->check(CLI::Range(1, 100000));
  app.add_option("--calls", calls)->check(CLI::Range(1, 100));
  app.add_option("--threads", threads)->check(CLI::Range(1, 1024));
  app.add_flag("--new-only", new_only, "AVX-512 once only");
  CLI11_PARSE(app, argc, argv);
  if (ag::active_isa() != ag::Isa::amx) {
    fmt::print(stderr, "error: this machine has no AMX\n");
    return 1;
  }
  ag::set_threads(threads);
  fmt::print("{:<30} {:>8} {:>8}    {:>6} {:>6}         {:>6}\n", "per call", "median", "fast",
             "median", "fast", "ratio");
  for (const bool mla : {true, false}) {
    measure(4, 512, mla, rounds, calls, !new_only);
    measure(1, 2048, mla, rounds, calls, !new_only);
  }
  return 0;
}
