// The pool reaches a fixed state: the shapes of a step repeat, and so do its blocks.
#include "autograd/core/pool.h"

#include "tests/autograd/residual_stack.h"
#include "tests/support/refusal.h"

namespace ag::test {
namespace {

TEST(Pool, NoAllocationAfterTheSecondStep) {
  using Recompute = ResidualStack::Recompute;
  for (const Recompute recompute : {Recompute::kOff, Recompute::kOn}) {
    ResidualStack stack(257, 48, 4, DType::bf16);
    Pool::release_cached();
    std::vector<int64_t> allocations;
    for (int step = 0; step < 5; ++step) {
      const int64_t before = Pool::statistics().os_allocations;
      Tape tape;
      tape.backward(stack.loss(tape, recompute), 1.0);
      allocations.push_back(Pool::statistics().os_allocations - before);
    }
    EXPECT_GT(allocations[0], 0);
    EXPECT_EQ(std::vector(allocations.begin() + 2, allocations.end()), std::vector<int64_t>(3, 0));
  }
}

TEST(Pool, CountsLiveCachedAndPeakBytes) {
  Pool::release_cached();
  const PoolStatistics start = Pool::statistics();
  EXPECT_EQ(start.cached_bytes, 0);
  Pool::reset_peak();
  std::byte* address = nullptr;
  {
    const auto a = Pool::take(Device::cpu, 100), b = Pool::take(Device::cpu, 4096);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a->data) % 64, 0U);
    EXPECT_NE(a->data, b->data);
    address = b->data;
    EXPECT_EQ(Pool::statistics().live_bytes - start.live_bytes, 128 + 4096);
  }
  const PoolStatistics end = Pool::statistics();
  EXPECT_EQ(end.live_bytes, start.live_bytes);
  EXPECT_EQ(end.cached_bytes, 128 + 4096);
  EXPECT_EQ(end.peak_bytes, start.live_bytes + 128 + 4096);
  EXPECT_EQ(end.os_allocations, start.os_allocations + 2);
  EXPECT_EQ(Pool::take(Device::cpu, 4090)->data, address);  // the same size once rounded
  EXPECT_EQ(Pool::statistics().os_allocations, end.os_allocations);
  Pool::release_cached();
  EXPECT_EQ(Pool::statistics().cached_bytes, 0);
}

TEST(Pool, LargeBlocksAreHugePages) {
  const auto block = Pool::take(Device::cpu, (size_t{2} << 20) + 1);
  EXPECT_EQ(block->bytes, (size_t{2} << 20) + (size_t{64} << 10));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block->data) % (size_t{2} << 20), 0U);
}

TEST(Pool, SaysWhichSizeDoesNotFit) {
  const int64_t live = Pool::statistics().live_bytes;
  test_support::expect_refusal(core::ExitCode::kOutOfMemory,
                               "a tensor needs 1152921504606846976 bytes",
                               [] { Pool::take(Device::cpu, size_t{1} << 60); });
  EXPECT_EQ(Pool::statistics().live_bytes, live);
}

}  // namespace
}  // namespace ag::test
