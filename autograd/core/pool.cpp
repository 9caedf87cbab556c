#include "autograd/core/pool.h"

#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace ag {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Why not whole huge pages: a tensor of 2.25 MiB, as a block of SmolLM keeps seven, would take 4.
constexpr size_t kLargeUnit = size_t{64} << 10;

size_t rounded(size_t bytes) {
  const size_t unit = bytes >= kHugePage ? kLargeUnit : kAlignment;
  return bytes == 0 ? kAlignment : (bytes + unit - 1) / unit * unit;
}

class CpuPool {
 public:
  ~CpuPool() { release(); }

  Block* take(size_t bytes) {
    const size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    std::vector<Block*>& list = free_[size];
    Block* block = nullptr;
    if (!list.empty()) {
      block = list.back();
      list.pop_back();
      statistics_.cached_bytes -= static_cast<int64_t>(size);
    } else {
      block = allocate(size);
    }
    statistics_.live_bytes += static_cast<int64_t>(size);
    statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.live_bytes);
    return block;
  }

  void give(Block* block) {
    const std::lock_guard lock(mutex_);
    statistics_.live_bytes -= static_cast<int64_t>(block->bytes);
    statistics_.cached_bytes += static_cast<int64_t>(block->bytes);
    free_[block->bytes].push_back(block);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    for (auto& [size, list] : free_) {
      for (Block* block : list) {
        std::free(block->data);
        delete block;
      }
      statistics_.cached_bytes -= static_cast<int64_t>(size * list.size());
      list.clear();
    }
  }

  PoolStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak_bytes = statistics_.live_bytes;
  }

 private:
  Block* allocate(size_t size) {
    const size_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    void* data = nullptr;
    if (::posix_memalign(&data, alignment, size) != 0)
      throw core::Error(core::ExitCode::kOutOfMemory,
                        "error: out of memory: a tensor needs " + std::to_string(size) +
                            " bytes; use a smaller tokens.micro_batch_size");
    // Why: fresh 4 KiB pages cost about four times as much to touch as huge ones.
    if (size >= kHugePage) ::madvise(data, size, MADV_HUGEPAGE);
    ++statistics_.os_allocations;
    return new Block{static_cast<std::byte*>(data), size};
  }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<Block*>> free_;
  PoolStatistics statistics_;
};

// Never destroyed before the last tensor: tensors keep it alive through their deleters.
std::shared_ptr<CpuPool> cpu_pool() {
  static const auto pool = std::make_shared<CpuPool>();
  return pool;
}

}  // namespace

std::shared_ptr<Block> Pool::take(Device, size_t bytes) {
  auto pool = cpu_pool();
  Block* block = pool->take(bytes);
  return {block, [pool](Block* b) { pool->give(b); }};
}

PoolStatistics Pool::statistics(Device) { return cpu_pool()->statistics(); }
void Pool::reset_peak(Device) { cpu_pool()->reset_peak(); }
void Pool::release_cached(Device) { cpu_pool()->release(); }

}  // namespace ag
