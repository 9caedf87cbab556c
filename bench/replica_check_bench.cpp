// Time to hash the whole training state of a model of SmolLM-135M's shape - float32 masters and
// both moments - as the comparison of the ranks does every checkpoints.replica_check_interval
// steps:
//   build/release/bench/replica_check_bench [--threads 2] [--parameters 134515008]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"
#include "trainer/checkpoint/replica_check.h"

namespace {

// 30 layers of equal tensors behind one embedding of a fifth, three times: what bounds the time on
// many threads is the largest.
void add_state(trainer::StateRegistry& registry, int64_t parameters) {
  const int64_t embedding = parameters / 5, each = (parameters - embedding) / 210;
  for (const char* kind : {"model", "m", "v"}) {
    const auto add = [&](const std::string& name, int64_t numel) {
      ag::Tensor tensor = ag::Tensor::empty({numel}, ag::DType::f32);
      tensor.fill_zero();
      registry.add_tensor(fmt::format("{}/{}", kind, name), tensor);
    };
    add("embedding", embedding);
    for (int i = 0; i < 210; ++i) add(fmt::format("{:03}", i), each);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time of hashing the training state");
  int threads = 2, repeats = 5;
  int64_t parameters = 134'515'008;
  app.add_option("--threads", threads);
  app.add_option("--repeats", repeats);
  app.add_option("--parameters", parameters);
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  trainer::StateRegistry registry;
  add_state(registry, parameters);
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    trainer::state_digest(registry);
    seconds.push_back(core::seconds_since(start));
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  fmt::print(
      "{} parameters, {:.2f} GB of state, {} threads: {:.3f} s (median of {}), {:.1f} GB/s\n",
      parameters, 12e-9 * static_cast<double>(parameters), threads, median, repeats,
      12e-9 * static_cast<double>(parameters) / median);
}
