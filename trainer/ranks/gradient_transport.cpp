#include "trainer/ranks/gradient_transport.h"

#include <algorithm>

#include "core/env.h"

namespace trainer {

GradientRange part_of(const GradientRange& group, int rank, int ranks) {
  constexpr int64_t kAlignment = 16;  // elements: parts begin at cache lines
  const int64_t share = (group.end - group.begin + ranks - 1) / ranks;
  const int64_t size = (share + kAlignment - 1) / kAlignment * kAlignment;
  const int64_t begin = std::min(group.begin + rank * size, group.end);
  return {begin, std::min(begin + size, group.end)};
}

std::unique_ptr<GradientTransport> make_transport(const ShardTree& tree, int64_t elements,
                                                  ag::DType dtype) {
  if (!core::env().no_shared_memory)
    if (auto memory = make_memory_transport(tree, elements, dtype)) return memory;
  return make_message_transport(tree, elements, dtype);
}

}  // namespace trainer
