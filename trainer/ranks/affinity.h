// Which cores this rank may run on, and how many threads that allows. A core here is what the
// kernel schedules on, a hardware thread. mpirun binds each of 1 or 2 ranks to a single core unless
// told otherwise, which starves a rank of threads without a word: this is where it is noticed.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace trainer {

struct Affinity {
  std::vector<int> allowed;  // cores of this rank, ascending
  int node_cores = 0;        // cores that this job's container or cgroup grants on the node
  bool mpirun = false;       // started by Open MPI's mpirun
};

// Of the calling process. Throws kOsLimit if the kernel does not tell.
Affinity read_affinity();

// "0-3,8"; empty for no core.
std::string format_cores(const std::vector<int>& cores);

struct ThreadPlan {
  int threads = 1;      // per rank
  std::string warning;  // one line with the fix, or empty
};

// `requested` is parallelism.threads_per_rank, nothing for auto: an equal share of the node's
// cores, but no more than the rank is allowed to use. Requires: local_ranks >= 1, requested >= 1.
ThreadPlan plan_threads(const Affinity& affinity, int local_ranks, std::optional<int> requested);

}  // namespace trainer
