// Ranks of one host read each other's sums where they are. The total comes to stand in rank 0's
// memory, at the tree's leftmost leaf; nothing is copied.
#include <atomic>
#include <functional>
#include <new>
#include <thread>

#include "core/error.h"
#include "core/trace.h"
#include "trainer/ranks/gradient_transport.h"
#include "trainer/ranks/shared_memory.h"

namespace trainer {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMaxSubtrees = 64;

// At the head of each rank's block, written by that rank alone. Counts never go back.
struct Board {
  std::atomic<uint64_t> offered{0};   // groups
  std::atomic<uint64_t> summed{0};    // groups
  std::atomic<uint64_t> released{0};  // steps whose total this rank does not read any more
  // Bytes from the head of the block to the buffer of each subtree; valid once a group is offered.
  std::atomic<uint64_t> subtrees[kMaxSubtrees] = {};
};
static_assert(sizeof(Board) <= kPage && std::atomic<uint64_t>::is_always_lock_free);

// Waiting ranks may outnumber the processors.
void wait_until(const std::function<bool()>& done) {
  constexpr int kSpins = 2000, kYields = 2000;
  for (int i = 0; !done(); ++i) {
    if (i < kSpins)
      __builtin_ia32_pause();
    else if (i < kSpins + kYields)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

class MemoryTransport final : public GradientTransport {
 public:
  MemoryTransport(const ShardTree& tree, int64_t elements, ag::DType dtype,
                  std::shared_ptr<SharedMemory> memory, size_t buffer_bytes)
      : tree_(tree),
        elements_(elements),
        dtype_(dtype),
        memory_(std::move(memory)),
        buffer_bytes_(buffer_bytes) {
    new (memory_->of_rank(tree.plan().rank()).data()) Board;
    tree.comm().barrier();  // all boards are there
  }

  ag::Tensor make_buffer() override {
    const auto index = static_cast<size_t>(buffers_++);
    if (buffers_ > tree_.plan().peak_values())
      core::fail(core::ExitCode::kInternal, {.field = "gradient buffers",
                                             .expected = std::to_string(tree_.plan().peak_values()),
                                             .found = "one more"});
    return over(tree_.plan().rank(), kPage + index * buffer_bytes_, {0, elements_});
  }

  void begin_step() override {
    board(tree_.plan().rank()).released.store(steps_, std::memory_order_release);
    if (tree_.plan().rank() == 0)
      wait_for_all([this](const Board& b) { return b.released.load() >= steps_; });
    ++steps_;
  }

  void offer(const GradientRange& group, const std::vector<ag::Tensor>& own) override {
    Board& mine = board(tree_.plan().rank());
    const std::byte* head = memory_->of_rank(tree_.plan().rank()).data();
    for (size_t i = 0; i < own.size(); ++i)
      mine.subtrees[i].store(
          static_cast<uint64_t>(static_cast<const std::byte*>(own[i].view().data) - head),
          std::memory_order_relaxed);
    groups_.push_back(group);
    mine.offered.fetch_add(1, std::memory_order_release);
  }

  std::vector<ag::Tensor> take() override {
    const core::trace::Scope scope("exchange");
    const ShardPlan& plan = tree_.plan();
    wait_for_all(
        [this](const Board& b) { return b.offered.load(std::memory_order_acquire) > summed_; });
    const GradientRange mine = part_of(groups_[taken_++], plan.rank(), plan.ranks());
    std::vector<ag::Tensor> parts;
    for (int rank = 0; rank < plan.ranks(); ++rank)
      for (size_t i = 0; i < plan.subtrees(rank).size(); ++i)
        parts.push_back(over(rank, board(rank).subtrees[i].load(std::memory_order_relaxed), mine));
    return parts;
  }

  void publish(const ag::Tensor&) override {
    ++summed_;
    board(tree_.plan().rank()).summed.store(summed_, std::memory_order_release);
  }

  ag::Tensor finish() override {
    const core::trace::Scope scope("exchange");
    wait_for_all(
        [this](const Board& b) { return b.summed.load(std::memory_order_acquire) >= summed_; });
    groups_.clear();
    taken_ = 0;
    return over(0, board(0).subtrees[0].load(std::memory_order_relaxed), {0, elements_});
  }

 private:
  Board& board(int rank) const {
    return *std::launder(reinterpret_cast<Board*>(memory_->of_rank(rank).data()));
  }

  template <class Condition>
  void wait_for_all(Condition&& holds) const {
    for (int rank = 0; rank < tree_.plan().ranks(); ++rank)
      wait_until([&] { return holds(board(rank)); });
  }

  // Elements of the gradient that begins `offset` bytes into the block of `rank`.
  ag::Tensor over(int rank, uint64_t offset, const GradientRange& range) const {
    return ag::Tensor::over(memory_, memory_->of_rank(rank).data() + offset, {elements_}, dtype_)
        .slice(range.begin, {range.end - range.begin});
  }

  const ShardTree& tree_;
  int64_t elements_;
  ag::DType dtype_;
  std::shared_ptr<SharedMemory> memory_;
  size_t buffer_bytes_;
  int buffers_ = 0;
  uint64_t steps_ = 0, summed_ = 0;
  std::vector<GradientRange> groups_;  // of this step
  size_t taken_ = 0;
};

}  // namespace

std::unique_ptr<GradientTransport> make_memory_transport(const ShardTree& tree, int64_t elements,
                                                         ag::DType dtype) {
  const auto bytes = static_cast<size_t>(elements * ag::size_of(dtype));
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t buffer_bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  std::shared_ptr<SharedMemory> memory = SharedMemory::create(
      tree.comm(), kPage + buffer_bytes * static_cast<size_t>(tree.plan().peak_values()));
  if (memory == nullptr) return nullptr;
  return std::make_unique<MemoryTransport>(tree, elements, dtype, std::move(memory), buffer_bytes);
}

}  // namespace trainer
