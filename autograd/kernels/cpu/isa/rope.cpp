// Partial rotary embedding by plan:
//   y[out_a] = x[in_a] cos - x[in_b] sin,  y[out_b] = x[in_b] cos + x[in_a] sin;
// the inverse reads the out columns, writes the in columns and turns the other way.
#include "autograd/kernels/cpu/isa/loops.h"

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

// Turns `count` consecutive pairs, the first of which is `pair`, of the rows [begin, end). kCount
// is `count` where the compiler should know it, else 0: a pair without neighbours needs no vector
// loop.
template <class T, int64_t kCount>
[[gnu::always_inline]] inline void turn(const Rotation& r, RopePair pair, int64_t count,
                                        int64_t begin, int64_t end) {
  using W = compute_t<T>;
  const int64_t width = kCount > 0 ? kCount : count;
  const W sign = r.inverse ? -1 : 1;
  if (r.inverse) {
    pair = {pair.out_a, pair.out_b, pair.in_a, pair.in_b, pair.frequency};
  }
  int64_t token = begin % r.tokens;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t position = r.first_position + token;
    token = token + 1 == r.tokens ? 0 : token + 1;
    const W* c = r.cosine.row<W>(position) + pair.frequency;
    const W* s = r.sine.row<W>(position) + pair.frequency;
    const T* a = r.x.row<T>(n) + pair.in_a;
    const T* b = r.x.row<T>(n) + pair.in_b;
    store<W>(r.y.row<T>(n) + pair.out_a, 0, width, r.y.accumulate,
             [=](int64_t i) { return widen<W>(a[i]) * c[i] - widen<W>(b[i]) * (sign * s[i]); });
    store<W>(r.y.row<T>(n) + pair.out_b, 0, width, r.y.accumulate,
             [=](int64_t i) { return widen<W>(b[i]) * c[i] + widen<W>(a[i]) * (sign * s[i]); });
  }
}

template <class T, int64_t kCount>
[[gnu::always_inline]] inline void copy(const Rotation& r, const RopeCopy& piece, int64_t begin,
                                        int64_t end) {
  using W = compute_t<T>;
  const int64_t width = kCount > 0 ? kCount : piece.count;
  const int64_t from = r.inverse ? piece.out : piece.in, to = r.inverse ? piece.in : piece.out;
  for (int64_t n = begin; n < end; ++n) {
    const T* source = r.x.row<T>(n) + from;
    store<W>(r.y.row<T>(n) + to, 0, width, r.y.accumulate,
             [=](int64_t i) { return widen<W>(source[i]); });
  }
}

template <class T>
void rotate_rows(const Rotation& r, const RopePlan& plan, int64_t begin, int64_t end) {
  const RopePair* pairs_end = plan.pairs.data() + plan.pairs.size();
  const RopeCopy* copies_end = plan.copies.data() + plan.copies.size();
  for (const RopePair* pair = plan.pairs.data(); pair < pairs_end;) {
    const int64_t count = run_length(pair, pairs_end);
    if (count == 1) {
      turn<T, 1>(r, *pair, 1, begin, end);
    } else {
      turn<T, 0>(r, *pair, count, begin, end);
    }
    pair += count;
  }
  for (const RopeCopy* piece = plan.copies.data(); piece < copies_end; ++piece) {
    if (piece->count == 1) {
      copy<T, 1>(r, *piece, begin, end);
    } else {
      copy<T, 0>(r, *piece, begin, end);
    }
  }
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
