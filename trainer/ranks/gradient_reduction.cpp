#include "trainer/ranks/gradient_reduction.h"

#include <algorithm>
#include <string>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/trace.h"

namespace trainer {
namespace {

[[noreturn]] void fail_order(const std::string& expected, const std::string& found) {
  core::fail(core::ExitCode::kInternal,
             {.field = "gradient reduction", .expected = expected, .found = found});
}

void add_into(ag::Tensor& left, const ag::Tensor& right) {
  ag::kernels(left.device()).cast(left.view(true), right.view());
}

// What of [0, elements) is in none of `ranges`, which do not overlap.
std::vector<GradientRange> rest_of(std::vector<GradientRange> ranges, int64_t elements) {
  std::sort(ranges.begin(), ranges.end(),
            [](const GradientRange& a, const GradientRange& b) { return a.begin < b.begin; });
  std::vector<GradientRange> rest;
  int64_t begin = 0;
  for (const GradientRange& range : ranges) {
    if (begin < range.begin) rest.push_back({begin, range.begin});
    begin = range.end;
  }
  if (begin < elements) rest.push_back({begin, elements});
  return rest;
}

}  // namespace

GradientReduction::GradientReduction(const ShardTree& tree, int64_t elements, ag::DType dtype)
    : tree_(&tree), elements_(elements), dtype_(dtype), next_(tree.range().begin) {
  if (dtype != ag::DType::f32 && dtype != ag::DType::f64)
    fail_order("float32 or float64 gradients", std::string(ag::name_of(dtype)));
  if (elements < 0) fail_order("a number of elements", std::to_string(elements));
  if (tree.comm().size() > 1) transport_ = make_transport(tree, elements, dtype);
}

ag::Tensor& GradientReduction::begin_shard(int64_t shard) {
  if (shard == tree_->range().begin) start_over();
  if (open_ || shard != next_ || shard >= tree_->range().end)
    fail_order((open_ ? "the end of shard " : "shard ") + std::to_string(next_),
               "the beginning of shard " + std::to_string(shard));
  last_ = take_buffer();
  ag::kernels(last_.device()).zero(last_.view());
  open_ = true;
  return last_;
}

void GradientReduction::end_shard(int64_t shard) {
  if (!open_ || shard != next_)
    fail_order((open_ ? "the end of shard " : "the beginning of shard ") + std::to_string(next_),
               "the end of shard " + std::to_string(shard));
  open_ = false;
  ++next_;
  if (next_ == tree_->range().end) return;  // its additions are those of sum_range
  nodes_.push_leaf(shard, std::exchange(last_, {}), [this](ag::Tensor& left, ag::Tensor right) {
    add_into(left, right);
    free_.push_back(std::move(right));
  });
}

void GradientReduction::start_sum(const GradientRange& range) {
  if (!open_ || next_ + 1 != tree_->range().end)
    fail_order("the last own shard open", "a sum that starts elsewhere");
  const core::trace::Scope scope("all_reduce");
  sum_range(range);
  summed_.push_back(range);
}

const ag::Tensor& GradientReduction::finish() {
  if (open_ || next_ != tree_->range().end)
    fail_order("all shards up to " + std::to_string(tree_->range().end - 1) + " ended",
               "a finish at shard " + std::to_string(next_));
  const core::trace::Scope scope(tree_->comm().size() > 1 ? "all_reduce" : "sum_shards");
  for (const GradientRange& range : rest_of(std::move(summed_), elements_)) sum_range(range);
  summed_.clear();
  while (in_flight_ > 0) sum_oldest();
  total_ = transport_ ? transport_->finish() : subtree_buffers().front();
  return total_;
}

std::vector<ag::Tensor> GradientReduction::subtree_buffers() const {
  PendingNodes<ag::Tensor> nodes = nodes_;
  nodes.push_leaf(tree_->range().end - 1, last_, [](ag::Tensor&, const ag::Tensor&) {});
  return nodes.take_all();
}

void GradientReduction::sum_range(const GradientRange& range) {
  const int64_t part = kGradientPartBytes / ag::size_of(dtype_);
  const std::vector<ag::Tensor> buffers = subtree_buffers();
  for (int64_t begin = range.begin; begin < range.end;) {
    const GradientRange group{begin, std::min(begin + part * tree_->comm().size(), range.end)};
    begin = group.end;
    const auto in_group = [&](const ag::Tensor& buffer) {
      return buffer.slice(group.begin, {group.end - group.begin});
    };
    PendingNodes<ag::Tensor> nodes = nodes_;
    nodes.push_leaf(tree_->range().end - 1, last_, [&](ag::Tensor& left, const ag::Tensor& right) {
      ag::Tensor sum = in_group(left);
      add_into(sum, in_group(right));
    });
    if (!transport_) continue;
    transport_->offer(group, buffers);
    // One group stays on its way while the next is worked on.
    if (++in_flight_ > 1) sum_oldest();
  }
}

void GradientReduction::sum_oldest() {
  const ShardPlan& plan = tree_->plan();
  const std::vector<ag::Tensor> parts = transport_->take();
  PendingNodes<ag::Tensor> nodes;
  size_t next = 0;
  for (int rank = 0; rank < plan.ranks(); ++rank)
    for (const TreeNode& subtree : plan.subtrees(rank))
      nodes.push(subtree, parts[next++],
                 [](ag::Tensor& left, const ag::Tensor& right) { add_into(left, right); });
  transport_->publish(nodes.take(plan.root()));
  --in_flight_;
}

ag::Tensor GradientReduction::take_buffer() {
  if (free_.empty())
    return transport_ ? transport_->make_buffer() : ag::Tensor::empty({elements_}, dtype_);
  ag::Tensor buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void GradientReduction::start_over() {
  if (in_flight_ > 0 || !summed_.empty())
    fail_order("a step that ends once its sum has begun", "a new step");
  total_ = {};
  if (transport_) transport_->begin_step();
  if (last_.defined()) free_.push_back(std::exchange(last_, {}));
  for (ag::Tensor& buffer : nodes_.take_all()) free_.push_back(std::move(buffer));
  next_ = tree_->range().begin;
  open_ = false;
}

}  // namespace trainer
