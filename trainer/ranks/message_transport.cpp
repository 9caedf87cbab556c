// Parts travel as messages, twice: subtrees to the rank that adds them up, totals to all. A rank
// sends and receives 2 (R - 1) / R times the gradient, as the best all-reduce does.
#include <deque>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "trainer/ranks/gradient_transport.h"
#include "trainer/ranks/pieces.h"

namespace trainer {
namespace {

ag::Tensor part(const ag::Tensor& buffer, const GradientRange& range) {
  return buffer.slice(range.begin, {range.end - range.begin});
}

class MessageTransport final : public GradientTransport {
 public:
  MessageTransport(const ShardTree& tree, int64_t elements, ag::DType dtype)
      : tree_(tree), elements_(elements), dtype_(dtype) {}

  ag::Tensor make_buffer() override { return ag::Tensor::empty({elements_}, dtype_); }
  void begin_step() override { own_.clear(); }

  void offer(const GradientRange& group, const std::vector<ag::Tensor>& own) override {
    own_ = own;
    const ShardPlan& plan = tree_.plan();
    const int64_t mine = size_of_part(group, plan.rank());
    Flight flight{group, take_received(), {}};
    std::vector<Comm::Outgoing> outgoing;
    std::vector<Comm::Incoming> incoming;
    size_t slot = 0;
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      if (rank == plan.rank()) continue;
      for (const ag::Tensor& buffer : own) {
        ag::Tensor theirs = part(buffer, part_of(group, rank, plan.ranks()));
        outgoing.push_back({bytes_of(theirs), rank});
      }
      for (size_t i = plan.subtrees(rank).size(); i > 0; --i) {
        ag::Tensor here = flight.received[slot++].slice(0, {mine});
        incoming.push_back({bytes_of(here), rank});
      }
    }
    flight.transfer = tree_.comm().start_exchange(outgoing, incoming);
    gathering_.push_back(std::move(flight));
  }

  std::vector<ag::Tensor> take() override {
    const ShardPlan& plan = tree_.plan();
    Flight& flight = gathering_.front();
    tree_.comm().finish(flight.transfer);
    const GradientRange mine = part_of(flight.group, plan.rank(), plan.ranks());
    std::vector<ag::Tensor> parts;
    size_t slot = 0;
    for (int rank = 0; rank < plan.ranks(); ++rank)
      for (size_t i = 0; i < plan.subtrees(rank).size(); ++i)
        parts.push_back(rank == plan.rank()
                            ? part(own_[i], mine)
                            : flight.received[slot++].slice(0, {mine.end - mine.begin}));
    return parts;
  }

  void publish(const ag::Tensor& sum) override {
    const ShardPlan& plan = tree_.plan();
    Flight flight = std::move(gathering_.front());
    gathering_.pop_front();
    ag::Tensor total = part(own_.front(), part_of(flight.group, plan.rank(), plan.ranks()));
    if (sum.numel() > 0 && sum.view().data != std::as_const(total).view().data)
      ag::kernels(total.device()).cast(total.view(), sum);
    for (ag::Tensor& buffer : flight.received) free_.push_back(std::move(buffer));
    std::vector<Comm::Outgoing> outgoing;
    std::vector<Comm::Incoming> incoming;
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      if (rank == plan.rank()) continue;
      ag::Tensor theirs = part(own_.front(), part_of(flight.group, rank, plan.ranks()));
      outgoing.push_back({bytes_of(total), rank});
      incoming.push_back({bytes_of(theirs), rank});
    }
    if (!handing_out_.empty()) finish_oldest();
    handing_out_.push_back(tree_.comm().start_exchange(outgoing, incoming));
  }

  ag::Tensor finish() override {
    while (!handing_out_.empty()) finish_oldest();
    return own_.front();
  }

 private:
  // A group whose subtrees are on their way.
  struct Flight {
    GradientRange group;
    std::vector<ag::Tensor> received;  // of the other ranks' subtrees, in their order
    Comm::Transfer transfer;
  };

  int64_t size_of_part(const GradientRange& group, int rank) const {
    const GradientRange range = part_of(group, rank, tree_.plan().ranks());
    return range.end - range.begin;
  }

  std::vector<ag::Tensor> take_received() {
    size_t count = 0;
    for (int rank = 0; rank < tree_.plan().ranks(); ++rank)
      if (rank != tree_.plan().rank()) count += tree_.plan().subtrees(rank).size();
    for (; free_.size() < count;)
      free_.push_back(ag::Tensor::empty({kGradientPartBytes / ag::size_of(dtype_)}, dtype_));
    std::vector<ag::Tensor> received(free_.end() - static_cast<std::ptrdiff_t>(count), free_.end());
    free_.resize(free_.size() - count);
    return received;
  }

  void finish_oldest() {
    tree_.comm().finish(handing_out_.front());
    handing_out_.pop_front();
  }

  const ShardTree& tree_;
  int64_t elements_;
  ag::DType dtype_;
  std::vector<ag::Tensor> own_;
  std::deque<Flight> gathering_;
  std::deque<Comm::Transfer> handing_out_;
  std::vector<ag::Tensor> free_;
};

}  // namespace

std::unique_ptr<GradientTransport> make_message_transport(const ShardTree& tree, int64_t elements,
                                                          ag::DType dtype) {
  return std::make_unique<MessageTransport>(tree, elements, dtype);
}

}  // namespace trainer
