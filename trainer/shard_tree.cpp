#include "trainer/shard_tree.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "autograd/kernels/kernels.h"

namespace trainer {
namespace {

[[noreturn]] void fail_order(const std::string& expected, const std::string& found) {
  core::fail(core::ExitCode::kInternal,
             {.field = "gradient reduction", .expected = expected, .found = found});
}

// Calls f with the elements of a contiguous tensor as a span of their type. MPI reads device memory
// through the same pointer where it is device-aware.
template <class F>
void with_span(ag::Tensor& tensor, F&& f) {
  const auto count = static_cast<size_t>(tensor.numel());
  if (tensor.dtype() == ag::DType::f64)
    f(std::span<double>(static_cast<double*>(tensor.view().data), count));
  else
    f(std::span<float>(static_cast<float*>(tensor.view().data), count));
}

// Calls f(piece) for consecutive slices of at most kPieceBytes of a flat tensor.
template <class F>
void for_each_piece(const ag::Tensor& tensor, F&& f) {
  const int64_t limit = GradientReduction::kPieceBytes / ag::size_of(tensor.dtype());
  for (int64_t first = 0; first < tensor.numel(); first += limit)
    f(tensor.slice(first, {std::min(limit, tensor.numel() - first)}));
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
  exchange(
      tree_->plan(), nodes_,
      [this](ag::Tensor& left, ag::Tensor right) { add(left, std::move(right)); },
      [this](int to, ag::Tensor buffer) { send(to, std::move(buffer)); },
      [this](int from, ag::Tensor& left) { receive_add(from, left); });
  current_ = tree_->comm().rank() == 0 ? nodes_.take(tree_->plan().root()) : take_buffer();
  for_each_piece(current_, [this](ag::Tensor piece) {
    with_span(piece, [this](auto values) { tree_->comm().broadcast(values); });
  });
  return current_;
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

void GradientReduction::send(int to, ag::Tensor buffer) {
  for_each_piece(buffer, [&](ag::Tensor piece) {
    with_span(piece, [&](auto values) { tree_->comm().send(values, to); });
  });
  free_.push_back(std::move(buffer));
}

void GradientReduction::receive_add(int from, ag::Tensor& left) {
  for_each_piece(left, [&](ag::Tensor piece) {
    if (!received_.defined()) received_ = ag::Tensor::like(piece);
    ag::Tensor right = received_.slice(0, piece.shape());
    with_span(right, [&](auto values) { tree_->comm().receive(values, from); });
    add_into(piece, right);
  });
}

void GradientReduction::start_over() {
  if (current_.defined()) free_.push_back(std::exchange(current_, {}));
  for (ag::Tensor& buffer : nodes_.take_all()) free_.push_back(std::move(buffer));
  next_ = tree_->range().begin;
  open_ = false;
}

}  // namespace trainer
