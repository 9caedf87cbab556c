// Partial rotary embedding by plan:
//   y[out_a] = x[in_a] cos - x[in_b] sin,  y[out_b] = x[in_b] cos + x[in_a] sin;
// the inverse reads the out columns, writes the in columns and turns the other way.
//
// A few rows at a time, which stay in the first level of cache: runs of copied columns as they are,
// runs of neighbouring pairs as vectors, and the other pairs gathered into vectors.
#include "autograd/kernels/cpu/isa/loops.h"
#include "autograd/kernels/cpu/isa/wide.h"

namespace ag::AG_ISA {
namespace {

// Rows per task. The plan is read once per task, so this many rows share its cost.
constexpr int64_t kRows = 16;

struct Rotation {
  View y;
  ConstView x, cosine, sine;
  int64_t tokens, first_position;
  bool inverse;
};

// Number of pairs from `pair` on in which every column moves on by one.
int64_t run_length(const RopePair* pair, const RopePair* end) {
  int32_t n = 1;
  while (pair + n < end && pair[n].in_a == pair->in_a + n && pair[n].in_b == pair->in_b + n &&
         pair[n].out_a == pair->out_a + n && pair[n].out_b == pair->out_b + n &&
         pair[n].frequency == pair->frequency + n) {
    ++n;
  }
  return n;
}

template <class W>
struct Turned {
  Vec<W> a, b;
};

// `s` belongs to the forward.
template <class W>
AG_INLINE Turned<W> turn(Vec<W> a, Vec<W> b, Vec<W> c, Vec<W> s, bool inverse) {
  const Vec<W> signed_sine = inverse ? -s : s;
  return {a * c - b * signed_sine, b * c + a * signed_sine};
}

template <class W, class T>
AG_INLINE void put(T* y, Vec<W> value, bool accumulate) {
  store_wide<W>(y, accumulate ? load_wide<W>(y) + value : value);
}

// Calls f(row of y, row of x, cosines, sines) for the rows [begin, end).
template <class T, class F>
AG_INLINE void for_rows(const Rotation& r, int64_t begin, int64_t end, F f) {
  using W = compute_t<T>;
  int64_t token = begin % r.tokens;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t position = r.first_position + token;
    token = token + 1 == r.tokens ? 0 : token + 1;
    f(r.y.row<T>(n), r.x.row<T>(n), r.cosine.row<W>(position), r.sine.row<W>(position));
  }
}

// kLanes neighbouring pairs, the first of which is `pair`.
template <class T>
void turn_neighbours(const Rotation& r, const RopePair& pair, int64_t begin, int64_t end) {
  using W = compute_t<T>;
  for_rows<T>(r, begin, end, [&](T* y, const T* x, const W* c, const W* s) {
    const Turned<W> turned =
        turn<W>(load_wide<W>(x + pair.in_a), load_wide<W>(x + pair.in_b),
                load_wide<W>(c + pair.frequency), load_wide<W>(s + pair.frequency), r.inverse);
    put<W>(y + pair.out_a, turned.a, r.y.accumulate);
    put<W>(y + pair.out_b, turned.b, r.y.accumulate);
  });
}

// Up to kLanes pairs from anywhere.
template <class T>
void turn_gathered(const Rotation& r, const RopePair* pairs, int64_t count, int64_t begin,
                   int64_t end) {
  using W = compute_t<T>;
  constexpr int64_t kWidth = kLanes<W>;
  for_rows<T>(r, begin, end, [=](T* y, const T* x, const W* cosines, const W* sines) {
    W a[kWidth] = {}, b[kWidth] = {}, c[kWidth] = {}, s[kWidth] = {};
    for (int64_t i = 0; i < count; ++i) {
      a[i] = widen<W>(x[pairs[i].in_a]);
      b[i] = widen<W>(x[pairs[i].in_b]);
      c[i] = cosines[pairs[i].frequency];
      s[i] = sines[pairs[i].frequency];
    }
    const bool accumulate = r.y.accumulate;
    const Turned<W> turned =
        turn<W>(load_wide<W>(a), load_wide<W>(b), load_wide<W>(c), load_wide<W>(s), r.inverse);
    if (accumulate) {
      for (int64_t i = 0; i < count; ++i) {
        y[pairs[i].out_a] = narrow<T>(widen<W>(y[pairs[i].out_a]) + turned.a[i]);
        y[pairs[i].out_b] = narrow<T>(widen<W>(y[pairs[i].out_b]) + turned.b[i]);
      }
      return;
    }
    T out_a[kWidth], out_b[kWidth];
    store_wide<W>(out_a, turned.a);
    store_wide<W>(out_b, turned.b);
    for (int64_t i = 0; i < count; ++i) {
      y[pairs[i].out_a] = out_a[i];
      y[pairs[i].out_b] = out_b[i];
    }
  });
}

// Pairs without enough neighbours wait here until there is a vector of them.
template <class T>
class Gathered {
 public:
  Gathered(const Rotation& r, int64_t begin, int64_t end) : r_(r), begin_(begin), end_(end) {}
  AG_INLINE void add(const RopePair& pair) {
    pairs_[count_++] = pair;
    if (count_ == kWidth) flush();
  }
  AG_INLINE void flush() {
    turn_gathered<T>(r_, pairs_, count_, begin_, end_);
    count_ = 0;
  }

 private:
  static constexpr int64_t kWidth = kLanes<compute_t<T>>;
  const Rotation& r_;
  int64_t begin_, end_, count_ = 0;
  RopePair pairs_[kWidth];
};

template <class T>
void copy(const Rotation& r, const RopeCopy& piece, int64_t begin, int64_t end) {
  using W = compute_t<T>;
  const int64_t from = r.inverse ? piece.out : piece.in, to = r.inverse ? piece.in : piece.out;
  const int64_t width = piece.count;
  for (int64_t n = begin; n < end; ++n) {
    const T* source = r.x.row<T>(n) + from;
    T* y = r.y.row<T>(n) + to;
    if (r.y.accumulate) {
      store<W>(y, 0, width, true, [=](int64_t i) { return widen<W>(source[i]); });
    } else {
      __builtin_memcpy(y, source, static_cast<size_t>(width) * sizeof(T));
    }
  }
}

// `pair` as seen in the direction of r, `i` columns further.
AG_INLINE RopePair neighbour(const Rotation& r, const RopePair& pair, int64_t i) {
  const auto by = static_cast<int32_t>(i);
  if (r.inverse)
    return {pair.out_a + by, pair.out_b + by, pair.in_a + by, pair.in_b + by, pair.frequency + by};
  return {pair.in_a + by, pair.in_b + by, pair.out_a + by, pair.out_b + by, pair.frequency + by};
}

template <class T>
void rotate_rows(const Rotation& r, const RopePlan& plan, int64_t begin, int64_t end) {
  constexpr int64_t kWidth = kLanes<compute_t<T>>;
  const RopePair* pairs_end = plan.pairs.data() + plan.pairs.size();
  const RopeCopy* copies_end = plan.copies.data() + plan.copies.size();
  Gathered<T> gathered(r, begin, end);
  for (const RopePair* pair = plan.pairs.data(); pair < pairs_end;) {
    const int64_t count = run_length(pair, pairs_end);
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth)
      turn_neighbours<T>(r, neighbour(r, *pair, i), begin, end);
    for (; i < count; ++i) gathered.add(neighbour(r, *pair, i));
    pair += count;
  }
  gathered.flush();
  for (const RopeCopy* piece = plan.copies.data(); piece < copies_end; ++piece)
    copy<T>(r, *piece, begin, end);
}

}  // namespace

void rope(View y, ConstView x, const RopePlan& plan, ConstView cosine, ConstView sine,
          int64_t tokens, int64_t first_position, bool inverse) {
  const Rotation rotation{y, x, cosine, sine, tokens, first_position, inverse};
  with_type(y.dtype, [&]<class T>() {
    parallel_rows((y.rows + kRows - 1) / kRows, kRows * y.cols, [&](int64_t task) {
      const int64_t begin = task * kRows;
      rotate_rows<T>(rotation, plan, begin, begin + kRows < y.rows ? begin + kRows : y.rows);
    });
  });
}

}  // namespace ag::AG_ISA
