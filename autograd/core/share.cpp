#include "autograd/core/share.h"

#include <algorithm>

#include "autograd/core/check.h"

namespace ag {

ElementRange intersection(const ElementRange& a, const ElementRange& b) {
  const int64_t begin = std::clamp(a.begin, b.begin, b.end);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

ElementRange range_of(int64_t numel, const Share& share) {
  CHECK_ARGUMENT("share", 0 <= share.index && share.index < share.count && numel >= 0,
                 "an owner below " + std::to_string(share.count), std::to_string(share.index));
  const int64_t tiles = (numel + kShareTile - 1) / kShareTile;
  // floor(tiles * index / count), without a product that could overflow.
  const auto begin_of = [&](int64_t index) {
    const int64_t before = tiles / share.count * index + tiles % share.count * index / share.count;
    return std::min(before * kShareTile, numel);
  };
  return {begin_of(share.index), begin_of(share.index + 1)};
}

}  // namespace ag
