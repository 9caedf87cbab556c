// Memory of Tokenizer::encode that calls hand on to each other.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "data/bpe.h"
#include "data/bpe_cache.h"

namespace data {

// What one call of encode needs for itself and the next one can use again.
struct EncodeScratch {
  Bpe::Workspace work;
  BpeCache cache;
  std::string spelled;
};

// Scratch for as many threads as encode at a time.
class EncodeScratchPool {
 public:
  std::unique_ptr<EncodeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<EncodeScratch>();
    std::unique_ptr<EncodeScratch> scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<EncodeScratch> scratch) {
    // The memory of one giant word is not kept for all the small ones after it.
    if (scratch->work.symbols.capacity() > kMaxKeptSymbols) scratch->work = {};
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  static constexpr size_t kMaxKeptSymbols = size_t{1} << 20;
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> free_;
};

}  // namespace data
