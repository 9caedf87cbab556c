// Time and memory of a training step, by phase, on random weights and tokens of a given shape:
//   build/release/bench/step_bench                       all shapes and types, one table
//   build/release/bench/step_bench --shape smollm-135m --dtype bfloat16 --batch 1 --sequence 2048
//   build/release/bench/step_bench --phases              and where the time goes, by kernel
//   build/release/bench/step_bench --on-request ...      a step for every line of stdin, for
//                                                        tools/peer/compare.py
// Medians over --steps steps after two that warm up. "peak" is the highest sum of all tensors,
// "predicted" what validate says of it, "resident" the peak of the process, "faults" the pages
// touched for the first time in a step.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <iostream>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "bench/phase_table.h"
#include "bench/step_case.h"
#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "trainer/run/step_log.h"
#include "trainer/step/memory.h"

namespace {

using namespace bench;

// Pages that the process touched for the first time, so far.
int64_t minor_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// Of the whole process, libraries and all cases so far included.
uint64_t peak_resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

// The bytes in tensors at their peak, as `mha2mla validate` predicts them.
uint64_t predicted_peak(const StepBench& bench, const Case& c, const std::string& recompute) {
  trainer::Config config;
  config.model.dtype = c.dtype;
  config.tokens.micro_batch_size = config.tokens.global_batch_size = c.batch;
  config.tokens.sequence_length = c.sequence;
  config.parallelism.recompute = recompute;
  config.parallelism.reduction_shards = 1;
  const trainer::MemoryEstimate m = trainer::estimate_memory(config, bench.model().spec(), 1);
  return m.per_rank() - m.runtime;
}

model::Recompute recompute_of(const std::string& name) {
  return name == "block"       ? model::Recompute::block
         : name == "attention" ? model::Recompute::attention
                               : model::Recompute::none;
}

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

void run(const Case& c, bool mla, const std::string& recompute, int64_t steps, bool phases) {
  ag::Pool::release_cached();
  ag::Pool::reset_peak();
  StepBench bench(c, mla, recompute_of(recompute));
  for (int i = 0; i < 2; ++i) bench.step();
  std::vector<double> forward, backward, optimizer, total, faults;
  for (int64_t i = 0; i < steps; ++i) {
    const int64_t before = minor_faults();
    const Phases p = bench.step();
    faults.push_back(static_cast<double>(minor_faults() - before));
    forward.push_back(p.forward);
    backward.push_back(p.backward);
    optimizer.push_back(p.optimizer);
    total.push_back(p.total);
  }
  const double step = median(total);
  fmt::print(
      "{:<12} {:<9} {:>2} x {:<5} {:>9.0f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>10} {:>10} "
      "{:>10} {:>8.0f}\n",
      c.shape, c.dtype, c.batch, c.sequence, static_cast<double>(c.batch * c.sequence) / step,
      1e3 * step, 1e3 * median(forward), 1e3 * median(backward), 1e3 * median(optimizer),
      core::format_bytes(static_cast<uint64_t>(ag::Pool::statistics().peak_bytes)),
      core::format_bytes(predicted_peak(bench, c, recompute)),
      core::format_bytes(peak_resident_bytes()), median(faults));
  std::fflush(stdout);
  if (phases) print_phases(bench, c, steps);
}

// Answers every line of stdin by a step and a line of JSON. `ids_path`: B*S int32.
void serve(const Case& c, bool mla, model::Recompute recompute, const std::string& ids_path) {
  const std::string bytes = core::read_text(ids_path);
  std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
  if (ids.size() != static_cast<size_t>(c.batch * c.sequence))
    core::fail(core::ExitCode::kBadData, {.path = ids_path,
                                          .field = "ids",
                                          .expected = fmt::format("{} x {}", c.batch, c.sequence),
                                          .found = std::to_string(ids.size())});
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  StepBench bench(c, mla, recompute, std::move(ids));
  std::puts(R"({"name": "mha2mla"})");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const Phases p = bench.step();
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    constexpr double kKibPerGib = 1 << 20;
    fmt::print(R"({{"seconds": {}, "loss": {}, "peak_gib": {}}})"
               "\n",
               p.total, p.loss, static_cast<double>(usage.ru_maxrss) / kKibPerGib);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Time and memory of a training step"};
  std::string shape, dtype, ids, recompute = "none";
  int64_t batch = 4, sequence = 0, steps = 5;
  int threads = 2;
  bool dense = false, phases = false, on_request = false;
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
  app.add_flag("--on-request", on_request,
               "a step for every line of stdin; with --ids and a shape");
  app.add_option("--ids", ids, "file of B*S int32 for --on-request");
  CLI11_PARSE(app, argc, argv);
  ag::set_threads(threads);
  if (on_request) {
    serve({shape, dtype, batch, sequence}, !dense, recompute_of(recompute), ids);
    return 0;
  }
  fmt::print("{}\n", ag::describe_backend());
  fmt::print("{:<12} {:<9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10} {:>8}\n",
             "shape", "dtype", "batch x S", "tokens/s", "step ms", "forward", "backward",
             "optimizer", "peak", "predicted", "resident", "faults");
  for (const std::string s : {"tiny-llama", "smollm-135m"}) {
    for (const std::string d : {"float32", "bfloat16"}) {
      if ((!shape.empty() && shape != s) || (!dtype.empty() && dtype != d)) continue;
      const int64_t length = sequence > 0 ? sequence : s == "tiny-llama" ? 256 : 512;
      run({s, d, batch, length}, !dense, recompute, steps, phases);
    }
  }
  return 0;
}
