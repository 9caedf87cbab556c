// The fixed tree against MPI_Allreduce, in turn, on gradients of a given size:
//   mpirun -np 2 --bind-to none build/release/bench/reduction_bench [--elements 134515008]
//   [--shards 4]
#include <fmt/format.h>
#include <mpi.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/gradient_reduction.h"

namespace {

using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class F>
double seconds_of(trainer::Comm& comm, F&& work) {
  comm.barrier();
  const auto begin = Clock::now();
  work();
  comm.barrier();
  return core::seconds_since(begin);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The fixed tree against MPI_Allreduce"};
  int64_t elements = 134515008, rounds = 7, shards = 4;
  int threads = 1;
  app.add_option("--elements", elements, "of the gradient, float32");
  app.add_option("--shards", shards, "leaves of the tree");
  app.add_option("--rounds", rounds, "of each, in turn");
  app.add_option("--threads", threads, "threads per rank");
  CLI11_PARSE(app, argc, argv);
  trainer::Comm comm(argc, argv);
  ag::set_threads(threads);
  const trainer::ShardTree tree(comm, std::max<int64_t>(shards, comm.size()));
  trainer::GradientReduction reduction(tree, elements);
  ag::Tensor gradient = ag::Tensor::zeros({elements}, ag::DType::f32);
  std::vector<double> fixed, mpi;
  for (int64_t i = 0; i < rounds + 1; ++i) {
    // Of the shards only the sum over ranks is timed: adding up a rank's own is not communication.
    for (int64_t j = tree.range().begin; j < tree.range().end; ++j) {
      reduction.begin_shard(j);
      reduction.end_shard(j);
    }
    const double a = seconds_of(comm, [&] { reduction.finish(); });
    const double b = seconds_of(comm, [&] {
      MPI_Allreduce(MPI_IN_PLACE, gradient.view().data, static_cast<int>(elements), MPI_FLOAT,
                    MPI_SUM, MPI_COMM_WORLD);
    });
    if (i == 0) continue;  // memory is touched for the first time
    fixed.push_back(a);
    mpi.push_back(b);
  }
  if (comm.rank() == 0)
    fmt::print(
        "{} ranks, {:.1f} MiB: fixed tree {:.1f} ms, MPI_Allreduce {:.1f} ms, ratio {:.2f}\n",
        comm.size(), static_cast<double>(elements) / (1 << 18), 1e3 * median(fixed),
        1e3 * median(mpi), median(fixed) / median(mpi));
  return 0;
}
