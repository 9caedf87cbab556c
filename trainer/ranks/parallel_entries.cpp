#include "trainer/ranks/parallel_entries.h"

#include <algorithm>
#include <numeric>

#include "autograd/kernels/kernels.h"

namespace trainer {

void for_each_entry(const std::vector<H5Source>& sources, const std::function<void(size_t)>& work) {
  std::vector<size_t> order(sources.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sources[a].bytes() > sources[b].bytes(); });
  const auto count = static_cast<std::ptrdiff_t>(order.size());
#pragma omp parallel for schedule(dynamic) num_threads(ag::threads())
  for (std::ptrdiff_t i = 0; i < count; ++i) work(order[static_cast<size_t>(i)]);
}

}  // namespace trainer
