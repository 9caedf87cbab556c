// A flat array dealt out among owners: contiguous shares, ascending, together the whole.
#pragma once

#include <cstdint>

namespace ag {

// Elements [begin, end) of a flat array.
struct ElementRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

// The part of `a` in `b`; empty, inside `b`, when they do not meet.
ElementRange intersection(const ElementRange& a, const ElementRange& b);

// The owner `index` of `count`.
struct Share {
  int64_t index = 0, count = 1;
};

// Shares are whole tiles of elements, and so are what the elementwise kernels deal to threads: they
// cut a share as they cut the whole, and round alike.
inline constexpr int64_t kShareTile = 4096;

// The elements of [0, numel) that belong to a share; empty for some shares of a short array.
// Requires: 0 <= index < count.
ElementRange range_of(int64_t numel, const Share& share);

}  // namespace ag
