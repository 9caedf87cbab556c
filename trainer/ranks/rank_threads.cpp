#include "trainer/ranks/rank_threads.h"

#include <optional>

#include "autograd/kernels/kernels.h"
#include "trainer/ranks/affinity.h"

namespace trainer {

std::string fix_threads(Config& config, Comm& comm) {
  int64_t& threads = config.parallelism.threads_per_rank.count;
  const std::optional<int> requested =
      threads > 0 ? std::optional(static_cast<int>(threads)) : std::nullopt;
  const ThreadPlan plan = plan_threads(read_affinity(), comm.node_size(), requested);
  threads = -comm.max(-plan.threads);
  ag::set_threads(static_cast<int>(threads));
  return plan.warning;
}

}  // namespace trainer
