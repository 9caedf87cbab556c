#include "trainer/shard_tree.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "core/trace.h"

namespace trainer {
namespace {

[[noreturn]] void fail_order(const std::string& expected, const std::string& found) {
  core::fail(core::ExitCode::kInternal,
             {.field = "gradient reduction", .expected = expected, .found = found});
}

// MPI reads device memory through the same pointer where it is device-aware.
std::span<std::byte> bytes_of(ag::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.view().data), static_cast<size_t>(tensor.bytes())};
}

void add_into(ag::Tensor& left, const ag::Tensor& right) {
  ag::kernels(left.device()).cast(left.view(true), right.view());
}

}  // namespace

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

GradientReduction::GradientReduction(const ShardTree& tree, int64_t elements, ag::DType dtype,
                                     ag::Device device)
    : tree_(&tree), elements_(elements), dtype_(dtype), device_(device), next_(tree.range().begin) {
  if (dtype != ag::DType::f32 && dtype != ag::DType::f64)
    fail_order("float32 or float64 gradients", std::string(ag::name_of(dtype)));
  if (elements < 0) fail_order("a number of elements", std::to_string(elements));
}

ag::Tensor& GradientReduction::begin_shard(int64_t shard) {
  if (shard == tree_->range().begin) start_over();
  if (open_ || shard != next_ || shard >= tree_->range().end)
    fail_order((open_ ? "the end of shard " : "shard ") + std::to_string(next_),
               "the beginning of shard " + std::to_string(shard));
  current_ = take_buffer();
  current_.fill_zero();
  open_ = true;
  return current_;
}

void GradientReduction::end_shard(int64_t shard) {
  if (!open_ || shard != next_)
    fail_order((open_ ? "the end of shard " : "the beginning of shard ") + std::to_string(next_),
               "the end of shard " + std::to_string(shard));
  open_ = false;
  ++next_;
  nodes_.push_leaf(shard, std::exchange(current_, {}),
                   [this](ag::Tensor& left, ag::Tensor right) { add(left, std::move(right)); });
}

const ag::Tensor& GradientReduction::finish() {
  if (open_ || next_ != tree_->range().end)
    fail_order("all shards up to " + std::to_string(tree_->range().end - 1) + " ended",
               "a finish at shard " + std::to_string(next_));
  std::vector<ag::Tensor> own = nodes_.take_all();
  const int64_t group = tree_->comm().size() * kPieceBytes / ag::size_of(dtype_);
  if (tree_->comm().size() > 1)
    for (int64_t first = 0; first < elements_; first += group) reduce_group(first, own);
  current_ = std::move(own.front());
  for (size_t i = 1; i < own.size(); ++i) free_.push_back(std::move(own[i]));
  return current_;
}

ag::Tensor GradientReduction::piece_of(int rank, int64_t first, const ag::Tensor& buffer) const {
  const int64_t size = kPieceBytes / ag::size_of(dtype_);
  const int64_t begin = std::min(first + rank * size, elements_);
  return buffer.slice(begin, {std::min(size, elements_ - begin)});
}

void GradientReduction::reduce_group(int64_t first, std::vector<ag::Tensor>& own) {
  const core::trace::Scope scope("all_reduce");
  const ShardPlan& plan = tree_->plan();
  std::vector<Comm::Outgoing> outgoing;
  std::vector<Comm::Incoming> incoming;
  std::vector<ag::Tensor> own_pieces;
  const ag::Shape own_shape = piece_of(plan.rank(), first, own.front()).shape();
  size_t slot = 0;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    for (const ag::Tensor& buffer : own) {
      ag::Tensor piece = piece_of(rank, first, buffer);
      if (rank == plan.rank())
        own_pieces.push_back(piece);
      else
        outgoing.push_back({bytes_of(piece), rank});
    }
    if (rank == plan.rank()) continue;
    for (size_t i = plan.subtrees(rank).size(); i > 0; --i) {
      if (slot == received_.size())
        received_.push_back(
            ag::Tensor::empty({kPieceBytes / ag::size_of(dtype_)}, dtype_, device_));
      ag::Tensor piece = received_[slot++].slice(0, own_shape);
      incoming.push_back({bytes_of(piece), rank});
    }
  }
  tree_->comm().exchange(outgoing, incoming);

  ag::Tensor total = piece_of(plan.rank(), first, own.front());
  const ag::Tensor sum = total.numel() > 0 ? walk_tree(own_pieces) : total;
  if (sum.view().data != total.view().data) ag::kernels(device_).cast(total.view(), sum.view());
  outgoing.clear();
  incoming.clear();
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    if (rank == plan.rank()) continue;
    ag::Tensor theirs = piece_of(rank, first, own.front());
    outgoing.push_back({bytes_of(total), rank});
    incoming.push_back({bytes_of(theirs), rank});
  }
  tree_->comm().exchange(outgoing, incoming);
}

// Requires: received_ holds the others' pieces. Left operands are overwritten.
ag::Tensor GradientReduction::walk_tree(const std::vector<ag::Tensor>& own_pieces) {
  const ShardPlan& plan = tree_->plan();
  PendingNodes<ag::Tensor> nodes;
  size_t slot = 0;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const std::vector<TreeNode> subtrees = plan.subtrees(rank);
    for (size_t i = 0; i < subtrees.size(); ++i)
      nodes.push(subtrees[i],
                 rank == plan.rank() ? own_pieces[i]
                                     : received_[slot++].slice(0, own_pieces.front().shape()),
                 [](ag::Tensor& left, const ag::Tensor& right) { add_into(left, right); });
  }
  return nodes.take(plan.root());
}

ag::Tensor GradientReduction::take_buffer() {
  if (free_.empty()) return ag::Tensor::empty({elements_}, dtype_, device_);
  ag::Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void GradientReduction::add(ag::Tensor& left, ag::Tensor right) {
  add_into(left, right);
  free_.push_back(std::move(right));
}

void GradientReduction::start_over() {
  if (current_.defined()) free_.push_back(std::exchange(current_, {}));
  for (ag::Tensor& buffer : nodes_.take_all()) free_.push_back(std::move(buffer));
  next_ = tree_->range().begin;
  open_ = false;
}

}  // namespace trainer
