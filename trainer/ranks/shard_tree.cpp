#include "trainer/ranks/shard_tree.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "core/error.h"

namespace trainer {
std::vector<double> tree_sum(const ShardTree& tree, std::vector<std::vector<double>> own) {
  const ShardRange range = tree.range();
  if (static_cast<int64_t>(own.size()) != range.size())
    core::fail(core::ExitCode::kInternal, {.field = "tree_sum",
                                           .expected = std::to_string(range.size()) + " shards",
                                           .found = std::to_string(own.size())});
  const size_t length = own.front().size();
  const auto add = [](std::vector<double>& left, const std::vector<double>& right) {
    std::transform(left.begin(), left.end(), right.begin(), left.begin(), std::plus<>());
  };

  PendingNodes<std::vector<double>> nodes;
  for (size_t i = 0; i < own.size(); ++i) {
    if (own[i].size() != length)
      core::fail(core::ExitCode::kInternal, {.field = "tree_sum",
                                             .expected = std::to_string(length) + " values",
                                             .found = std::to_string(own[i].size())});
    nodes.push_leaf(range.begin + static_cast<int64_t>(i), std::move(own[i]), add);
  }
  std::vector<double> received(length);
  exchange(
      tree.plan(), nodes, add,
      [&](int to, const std::vector<double>& values) { tree.comm().send(values, to); },
      [&](int from, std::vector<double>& left) {
        tree.comm().receive(received, from);
        add(left, received);
      });
  std::vector<double> total =
      tree.comm().rank() == 0 ? nodes.take(tree.plan().root()) : std::vector<double>(length);
  tree.comm().broadcast(total);
  return total;
}

}  // namespace trainer
