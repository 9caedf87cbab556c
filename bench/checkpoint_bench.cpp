// What saving costs a run: steps with a save in flight against the same steps without, in turn.
//   build/release/bench/checkpoint_bench --out FOLDER [--shape smollm-135m] [--dtype bfloat16]
//   [--rounds 3]
// The folder decides what is measured: it should be on the disk that runs are written to.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "autograd/kernels/kernels.h"
#include "bench/step_case.h"
#include "core/text.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/files/h5.h"
#include "trainer/models/model_folder.h"

namespace {

using namespace bench;

void register_state(trainer::StateRegistry& registry, StepBench& bench) {
  trainer::register_kept_pairs(registry, bench.model().spec());
  for (const auto& [path, weight] : bench.model().weights()) registry.add_tensor(path, weight);
  for (const ag::Param& p : bench.model().params().all()) {
    registry.add_tensor("optimizer.m/" + p.name, bench.optimizer().m(p).reshaped(p.shape));
    registry.add_tensor("optimizer.v/" + p.name, bench.optimizer().v(p).reshaped(p.shape));
  }
}

struct Round {
  double seconds = 0, stall = 0, save = 0;  // of all steps; of start(); of the whole save
};

Round run_steps(StepBench& bench, int64_t steps, trainer::CheckpointWriter* writer, int64_t step) {
  Round round;
  const auto begin = Clock::now();
  if (writer != nullptr) {
    writer->start({.step = step, .config = ""});
    round.stall = seconds_since(begin);
  }
  for (int64_t i = 0; i < steps; ++i) bench.step();
  round.seconds = seconds_since(begin);
  if (writer == nullptr) return round;
  const auto outcome = writer->wait();  // after the clock: a longer run would not wait for it
  if (outcome->error) std::rethrow_exception(outcome->error);
  round.save = outcome->seconds;
  return round;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What saving costs a run"};
  std::string shape = "smollm-135m", dtype = "bfloat16", out;
  int64_t batch = 4, sequence = 512, steps = 6, rounds = 3, interval = 100;
  int threads = 2;
  app.add_option("--out", out, "folder for the checkpoints")->required();
  app.add_option("--shape", shape, "tiny-llama | smollm-135m");
  app.add_option("--dtype", dtype, "float32 | bfloat16");
  app.add_option("--batch", batch, "sequences per step");
  app.add_option("--sequence", sequence, "tokens per sequence");
  app.add_option("--steps", steps, "steps of a round; a save should end within them");
  app.add_option("--rounds", rounds, "rounds with and without a save");
  app.add_option("--interval", interval, "steps between saves of the run that is spoken of");
  app.add_option("--threads", threads, "threads");
  CLI11_PARSE(app, argc, argv);
  trainer::h5_initialize();
  ag::set_threads(threads);
  StepBench bench({shape, dtype, batch, sequence}, true, model::Recompute::none);
  trainer::StateRegistry registry;
  register_state(registry, bench);
  trainer::CheckpointWriter writer(out, registry, {.keep_last = 1});
  for (int i = 0; i < 2; ++i) bench.step();
  run_steps(bench, 1, &writer, 1);  // the first save meets memory that was never touched
  std::vector<double> extra, step_seconds, stall, save;
  for (int64_t i = 0; i < rounds; ++i) {
    const Round without = run_steps(bench, steps, nullptr, 0);
    const Round with = run_steps(bench, steps, &writer, i + 2);
    extra.push_back(with.seconds - without.seconds);
    step_seconds.push_back(without.seconds / static_cast<double>(steps));
    stall.push_back(with.stall);
    save.push_back(with.save);
    fmt::print(
        "round {}: {} steps {:.2f} s, with a save {:.2f} s (copy {:.2f} s, durable after {:.1f} "
        "s)\n",
        i + 1, steps, without.seconds, with.seconds, with.stall, with.save);
  }
  const double interval_seconds = static_cast<double>(interval) * median(step_seconds);
  fmt::print("{} {} {} x {}: step {:.2f} s, a save adds {:.2f} s: {:.2f} % of {} steps\n", shape,
             dtype, batch, sequence, median(step_seconds), median(extra),
             100 * median(extra) / interval_seconds, interval);
  return 0;
}
