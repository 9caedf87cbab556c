#include "trainer/ranks/affinity.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>

#include "core/error.h"
#include "core/text.h"

namespace trainer {
namespace {

constexpr int kMaxCores = 1 << 16;

struct CoreSet {
  explicit CoreSet(int cores)
      : count(cores), bytes(CPU_ALLOC_SIZE(cores)), mask(CPU_ALLOC(cores), free_mask) {
    if (!mask) throw std::bad_alloc();
    CPU_ZERO_S(bytes, mask.get());
  }
  static void free_mask(cpu_set_t* set) { CPU_FREE(set); }

  int count;
  size_t bytes;
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> mask;
};

// Cores of the calling thread; empty if the kernel refuses. The kernel's mask may be larger than
// cpu_set_t, which it answers with EINVAL.
std::vector<int> allowed_cores() {
  for (int count = CPU_SETSIZE; count <= kMaxCores; count *= 2) {
    const CoreSet set(count);
    if (::sched_getaffinity(0, set.bytes, set.mask.get()) != 0) {
      if (errno == EINVAL) continue;
      return {};
    }
    std::vector<int> cores;
    for (int core = 0; core < count; ++core)
      if (CPU_ISSET_S(static_cast<size_t>(core), set.bytes, set.mask.get())) cores.push_back(core);
    return cores;
  }
  return {};
}

// The kernel cuts a wish for all cores down to what the cgroup grants. Asked in a thread that ends
// at once, so that no binding of the process changes.
int granted_cores(int at_least) {
  int granted = at_least;
  std::thread([&granted] {
    const CoreSet set(kMaxCores);
    for (int core = 0; core < set.count; ++core)
      CPU_SET_S(static_cast<size_t>(core), set.bytes, set.mask.get());
    if (::sched_setaffinity(0, set.bytes, set.mask.get()) == 0)
      granted = std::max(granted, static_cast<int>(allowed_cores().size()));
  }).join();
  return granted;
}

std::string binding_fix(bool mpirun, int threads) {
  return mpirun
             ? fmt::format("start with mpirun --bind-to none, or with mpirun --map-by slot:PE={}",
                           threads)
             : fmt::format(
                   "allow more, e.g. with srun --cpus-per-task={}, or lower "
                   "parallelism.threads_per_rank",
                   threads);
}

}  // namespace

Affinity read_affinity() {
  Affinity affinity;
  affinity.allowed = allowed_cores();
  if (affinity.allowed.empty())
    core::fail(core::ExitCode::kOsLimit, {.field = "sched_getaffinity",
                                          .expected = "the cores of this process",
                                          .found = "no answer from the kernel"});
  affinity.node_cores = granted_cores(static_cast<int>(affinity.allowed.size()));
  affinity.mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  return affinity;
}

std::string format_cores(const std::vector<int>& cores) {
  std::string text;
  for (size_t i = 0; i < cores.size();) {
    size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    if (!text.empty()) text += ",";
    text += last == i ? fmt::format("{}", cores[i]) : fmt::format("{}-{}", cores[i], cores[last]);
    i = last + 1;
  }
  return text;
}

ThreadPlan plan_threads(const Affinity& affinity, int local_ranks, std::optional<int> requested) {
  const int allowed = static_cast<int>(affinity.allowed.size());
  // Without mpirun a narrow mask is somebody's wish (taskset, a batch system), not an accident.
  const int node = affinity.mpirun ? affinity.node_cores : allowed;
  const int share = std::max(1, node / local_ranks);
  const int wanted = requested.value_or(share);
  ThreadPlan plan{.threads = requested.value_or(std::min(share, allowed)), .warning = {}};

  if (allowed < wanted)
    plan.warning = fmt::format(
        "warning: parallelism.threads_per_rank: this rank may use {} ({}) of {}, expected {}; {}",
        core::plural(allowed, "core"), format_cores(affinity.allowed), affinity.node_cores, wanted,
        binding_fix(affinity.mpirun, wanted));
  else if (wanted > share)
    plan.warning = fmt::format(
        "warning: parallelism.threads_per_rank: {} of {} on {}; set it to auto or {}, or start "
        "fewer ranks",
        core::plural(local_ranks, "rank"), core::plural(wanted, "thread"),
        core::plural(node, "core"), share);
  return plan;
}

}  // namespace trainer
