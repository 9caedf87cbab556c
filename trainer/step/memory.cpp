#include "trainer/step/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "autograd/core/share.h"
#include "model/llama.h"
#include "trainer/ranks/gradient_reduction.h"
#include "trainer/step/activation_memory.h"

namespace trainer {
namespace {

struct ParameterCounts {
  uint64_t all = 0, trainable = 0, vectors = 0;
};

ParameterCounts count_parameters(const Config& config, const model::ModelSpec& spec) {
  const auto trainable =
      config.model.trainable == "all" ? model::Trainable::all : model::Trainable::attention;
  ParameterCounts counts;
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    const auto numel = static_cast<uint64_t>(p.shape.numel());
    counts.all += numel;
    if (p.shape.rank() == 1) counts.vectors += numel;
    if (model::is_trainable(p.path, trainable)) counts.trainable += numel;
  }
  return counts;
}

uint64_t largest_share(uint64_t numel, int ranks) {
  // The tiles that are left over go to the last ones.
  const ag::Share last{ranks - 1, ranks};
  return static_cast<uint64_t>(ag::range_of(static_cast<int64_t>(numel), last).size());
}

// The number in a file that holds nothing else; the largest number for "max" or no file.
uint64_t read_limit(const char* path) {
  uint64_t value = 0;
  return std::ifstream(path) >> value ? value : std::numeric_limits<uint64_t>::max();
}

}  // namespace

uint64_t available_memory_bytes() {
  uint64_t available = std::numeric_limits<uint64_t>::max();
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    uint64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) available = kib * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  const uint64_t limit = read_limit("/sys/fs/cgroup/memory.max");
  const uint64_t used = read_limit("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<uint64_t>::max() && used <= limit)
    available = std::min(available, limit - used);
  return available;
}

MemoryEstimate estimate_memory(const Config& config, const model::ModelSpec& spec, int ranks) {
  const ParameterCounts counts = count_parameters(config, spec);
  const ShardPlan plan(config.parallelism.reduction_shards, ranks, 0);
  uint64_t others = 0;  // subtrees, of which two parts each are on their way
  for (int rank = 1; rank < ranks; ++rank) others += plan.subtrees(rank).size();
  MemoryEstimate estimate;
  const bool bf16 = config.model.dtype == "bfloat16";
  uint64_t own_trainable = counts.trainable, masters = counts.all;
  if (config.optimizer.zero_stage == 1 && ranks > 1) {
    own_trainable = largest_share(counts.trainable, ranks);
    // In float32 all are computed with; in bf16 the vectors are, and have a copy.
    if (bf16)
      masters =
          own_trainable + largest_share(counts.all - counts.trainable, ranks) + counts.vectors;
  }
  estimate.weights = kFloatBytes * masters + (bf16 ? 2 * counts.all : 0);
  estimate.gradients = kFloatBytes * counts.trainable * static_cast<uint64_t>(plan.peak_values());
  estimate.gradients += 2 * others * kGradientPartBytes;
  estimate.optimizer = 2 * kFloatBytes * own_trainable;
  estimate.activations = activation_memory(config, spec).peak();
  estimate.runtime = kRuntimeBytes;
  estimate.snapshot = checkpoint_bytes(config, spec);
  return estimate;
}

int64_t fitting_micro_batch(const Config& config, const model::ModelSpec& spec, int ranks,
                            uint64_t available) {
  Config smaller = config;
  for (int64_t m = config.tokens.micro_batch_size - 1; m > 0; --m) {
    if (config.tokens.global_batch_size % m != 0) continue;
    smaller.tokens.micro_batch_size = m;
    if (estimate_memory(smaller, spec, ranks).all(ranks) <= available) return m;
  }
  return 0;
}

uint64_t checkpoint_bytes(const Config& config, const model::ModelSpec& spec) {
  const ParameterCounts counts = count_parameters(config, spec);
  return kFloatBytes * counts.all + 2 * kFloatBytes * counts.trainable;
}

}  // namespace trainer
