// Time and memory of a training step, by phase, on random weights and tokens of a given shape:
//   build/release/bench/step_bench                       all shapes and types, one table
//   build/release/bench/step_bench --shape smollm-135m --dtype bfloat16 --batch 1 --sequence 2048
//   build/release/bench/step_bench --phases              and where the time goes, by kernel
// Medians over --steps steps after two that warm up.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "bench/phase_table.h"
#include "bench/step_case.h"
#include "core/text.h"
#include "trainer/step_log.h"

namespace {

using namespace bench;

void print_phases(StepBench& bench, const Case& c, int64_t steps) {
  Ceilings ceilings(c.dtype == "bfloat16" ? ag::DType::bf16 : ag::DType::f32);
  PhaseTable table;
  for (int64_t i = 0; i < steps; ++i) {
    ceilings.measure();
    core::trace::start();
    const double seconds = bench.step().total;
    core::trace::stop();
    table.add_step(core::trace::recording(), seconds);
  }
  table.print(ceilings);
}

void run(const Case& c, bool mla, model::Recompute recompute, int64_t steps, bool phases) {
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
  if (phases) print_phases(bench, c, steps);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Time and memory of a training step"};
  std::string shape, dtype, recompute = "none";
  int64_t batch = 4, sequence = 0, steps = 5;
  int threads = 2;
  bool dense = false, phases = false;
  app.add_option("--shape", shape, "tiny-llama | smollm-135m (default: both)");
  app.add_option("--dtype", dtype, "float32 | bfloat16 (default: both)");
  app.add_option("--batch", batch, "sequences per step");
  app.add_option("--sequence", sequence,
                 "tokens per sequence (default: 256 tiny-llama, 512 smollm-135m)");
  app.add_option("--steps", steps, "steps measured, after two that warm up");
  app.add_option("--threads", threads, "threads");
  app.add_option("--recompute", recompute, "none | attention | block");
  app.add_flag("--dense", dense, "the unconverted model instead of MLA");
  app.add_flag("--phases", phases,
               "as many steps once more: the fastest by phase, beside ceilings");
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
          steps, phases);
    }
  }
  return 0;
}
