// Attention backward, probabilities recomputed from lse, tile by tile and transposed:
//   P^T = exp(S^T - lse), dS^T = P^T (V dO^T - delta), delta = rowsum(dO out),
//   dV += P^T dO, dK += dS^T (scale Q), dQ^T += K^T dS^T.
// A task is one kv head with all its query heads, or a fixed set of their query tiles (QuerySets),
// so every sum has one owner and a fixed order. Gradients of keys and values are collected in wide
// form per task and written by a second pass, because heads may share columns of the rotary key.
#include <cmath>

#include "autograd/kernels/cpu/isa/attention_key_rows.h"

namespace ag::AG_ISA {
namespace {

struct Inputs {
  ConstView dout, q, k_rope, k_nope, v, out, lse;
};
struct Gradients {
  View dq, dk_rope, dk_nope, dv;

  bool keys() const { return dk_rope.data != nullptr || dk_nope.data != nullptr; }
  bool scores() const { return keys() || dq.data != nullptr; }
};

template <class C>
struct BackwardTiles {
  C *k, *v;                    // [keys, padded(head_dim or value_dim)]
  C *q, *q_transposed;         // scale Q [kQueryTile, padded(head_dim)], transpose
  C *dout, *dout_transposed;   // dO [kQueryTile, padded(value_dim)], transpose
  C *probabilities, *dscores;  // P^T and dS^T [kKeyTile, kQueryTile]
  C *dq_transposed, *dq;       // [padded(head_dim), kQueryTile] and transpose
  C *lse, *delta;              // [kQueryTile]
  C* out;                      // one row of out, widened
};

// What a task adds up: [keys, padded(head_dim)] and [keys, padded(value_dim)], null if not wanted.
template <class C>
struct KeySums {
  C *dk, *dv;
};

template <class C>
BackwardTiles<C> carve(Carver<C>& carver, const AttentionShape& shape) {
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  BackwardTiles<C> t;
  t.k = carver.take(shape.keys * key_stride);
  t.v = carver.take(shape.keys * value_stride);
  t.q = carver.take(kQueryTile * key_stride);
  t.q_transposed = carver.take(key_stride * kQueryTile);
  t.dout = carver.take(kQueryTile * value_stride);
  t.dout_transposed = carver.take(value_stride * kQueryTile);
  t.probabilities = carver.take(kKeyTile * kQueryTile);
  t.dscores = carver.take(kKeyTile * kQueryTile);
  t.dq_transposed = carver.take(key_stride * kQueryTile);
  t.dq = carver.take(kQueryTile * key_stride);
  t.lse = carver.take(kQueryTile);
  t.delta = carver.take(kQueryTile);
  t.out = carver.take(value_stride);
  return t;
}

// Loads queries [first, first + count) of head h of sequence b. Padding lanes get lse = infinity,
// which makes their probabilities 0.
template <class T, class C>
void load_queries(const BackwardTiles<C>& t, const Inputs& in, const AttentionShape& shape,
                  int64_t b, int64_t h, int64_t first, int64_t count) {
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  const int64_t lanes = padded<C>(count), row = b * shape.queries + first;
  pack_rows<T>(t.q, in.q, row, count, h * shape.head_dim, shape.head_dim,
               static_cast<C>(shape.scale));
  pack_rows<T>(t.dout, in.dout, row, count, h * shape.value_dim, shape.value_dim, C(1));
  fill(t.q + count * key_stride, (lanes - count) * key_stride, C(0));
  fill(t.dout + count * value_stride, (lanes - count) * value_stride, C(0));
  transpose(t.q_transposed, kQueryTile, t.q, key_stride, lanes, key_stride);
  transpose(t.dout_transposed, kQueryTile, t.dout, value_stride, lanes, value_stride);
  for (int64_t i = 0; i < count; ++i) {
    pack_rows<T>(t.out, in.out, row + i, 1, h * shape.value_dim, shape.value_dim, C(1));
    Vec<C> sum{};
    for (int64_t d = 0; d < value_stride; d += kLanes<C>) {
      sum += load(t.out + d) * load(t.dout + i * value_stride + d);
    }
    C delta = 0;
    for (int64_t lane = 0; lane < kLanes<C>; ++lane) delta += sum[lane];
    t.delta[i] = delta;
  }
  widen(t.lse, in.lse.row<C>(b * shape.heads + h) + first, count);
  fill(t.lse + count, lanes - count, static_cast<C>(INFINITY));
  fill(t.delta + count, lanes - count, C(0));
}

// P^T from S^T in place. Key j is hidden from the lanes below first_lane + j.
template <class C>
void probability_tile(const BackwardTiles<C>& t, int64_t keys, int64_t lanes, int64_t first_lane) {
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t i = 0; i < lanes; i += kLanes<C>) {
      C* const p = t.probabilities + j * kQueryTile + i;
      const int64_t hidden = first_lane + j - i;
      Vec<C> value = exp(load(p) - load(t.lse + i));
      if (hidden > 0) {
        using Index = typename LaneInteger<C>::type;
        value = lane_index<C>() < static_cast<Index>(hidden) ? Vec<C>{} : value;
      }
      store(p, value);
    }
  }
}

// dS^T = P^T (dP^T - delta) in place of dP^T.
template <class C>
void score_gradient_tile(const BackwardTiles<C>& t, int64_t keys, int64_t lanes) {
  for (int64_t j = 0; j < keys; ++j) {
    for (int64_t i = 0; i < lanes; i += kLanes<C>) {
      C* const d = t.dscores + j * kQueryTile + i;
      store(d, load(t.probabilities + j * kQueryTile + i) * (load(d) - load(t.delta + i)));
    }
  }
}

// All products of one query tile, whose first query sees keys [0, visible).
template <class C>
void propagate(const BackwardTiles<C>& t, const KeySums<C>& sums, const Gradients& want,
               const AttentionShape& shape, int64_t visible, int64_t count) {
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  const int64_t lanes = padded<C>(count), end = smaller(shape.keys, visible + count - 1);
  for (int64_t first = 0; first < end; first += kKeyTile) {
    const int64_t keys = smaller(kKeyTile, end - first);
    const C *k = t.k + first * key_stride, *v = t.v + first * value_stride;
    multiply(t.probabilities, kQueryTile, Broadcast<C>{k, key_stride, 1}, t.q_transposed,
             kQueryTile, keys, lanes, shape.head_dim, false);
    probability_tile(t, keys, lanes, first - visible + 1);
    if (want.dv.data != nullptr) {
      multiply(sums.dv + first * value_stride, value_stride,
               Broadcast<C>{t.probabilities, kQueryTile, 1}, t.dout, value_stride, keys,
               value_stride, count, true);
    }
    if (!want.scores()) continue;
    multiply(t.dscores, kQueryTile, Broadcast<C>{v, value_stride, 1}, t.dout_transposed, kQueryTile,
             keys, lanes, shape.value_dim, false);
    score_gradient_tile(t, keys, lanes);
    if (want.keys()) {
      multiply(sums.dk + first * key_stride, key_stride, Broadcast<C>{t.dscores, kQueryTile, 1},
               t.q, key_stride, keys, key_stride, count, true);
    }
    if (want.dq.data != nullptr) {
      multiply(t.dq_transposed, kQueryTile, Broadcast<C>{k, 1, key_stride}, t.dscores, kQueryTile,
               shape.head_dim, lanes, keys, first > 0);
    }
  }
}

template <class T, class C>
void store_dq(View dq, const BackwardTiles<C>& t, const AttentionShape& shape, int64_t b, int64_t h,
              int64_t first, int64_t count) {
  const int64_t stride = padded<C>(shape.head_dim);
  transpose(t.dq, stride, t.dq_transposed, kQueryTile, stride, padded<C>(count));
  for (int64_t i = 0; i < count; ++i) {
    store_row(dq.row<T>(b * shape.queries + first + i) + h * shape.head_dim, t.dq + i * stride,
              shape.head_dim, static_cast<C>(shape.scale), dq.accumulate);
  }
}

// One set of the query tiles of one kv head of one sequence: their dq is final.
template <class T, class C>
void backward_task(const BackwardTiles<C>& t, const KeySums<C>& sums, const Gradients& want,
                   const Inputs& in, const AttentionShape& shape, int64_t b, int64_t g,
                   const QuerySets& sets, int64_t set) {
  const int64_t group = shape.heads / shape.kv_heads, first_key = b * shape.keys;
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  pack_keys<T>(t.k, in.k_rope, in.k_nope, first_key, shape.keys, key_parts(shape, g));
  pack_rows<T>(t.v, in.v, first_key, shape.keys, g * shape.value_dim, shape.value_dim, C(1));
  if (sums.dv != nullptr) fill(sums.dv, shape.keys * value_stride, C(0));
  if (sums.dk != nullptr) fill(sums.dk, shape.keys * key_stride, C(0));
  for (int64_t h = g * group; h < (g + 1) * group; ++h) {
    for (int64_t first = 0; first < shape.queries; first += kQueryTile) {
      if (!sets.has(set, first / kQueryTile)) continue;
      const int64_t count = smaller(kQueryTile, shape.queries - first);
      load_queries<T>(t, in, shape, b, h, first, count);
      fill(t.dq_transposed, key_stride * kQueryTile, C(0));
      propagate(t, sums, want, shape, shape.keys - shape.queries + first + 1, count);
      if (want.dq.data != nullptr) store_dq<T>(want.dq, t, shape, b, h, first, count);
    }
  }
}

template <class T>
void backward(const Gradients& want, const Inputs& in, const AttentionShape& shape) {
  using C = compute_t<T>;
  if (!want.scores() && want.dv.data == nullptr) return;
  const QuerySets sets(shape.batch * shape.kv_heads, (shape.queries + kQueryTile - 1) / kQueryTile);
  const int64_t tasks = shape.batch * shape.kv_heads * sets.count;
  const int64_t threads = larger(1, smaller(tasks, omp_get_max_threads()));
  const int64_t dk_size = want.keys() ? shape.keys * padded<C>(shape.head_dim) : 0;
  const int64_t dv_size = want.dv.data != nullptr ? shape.keys * padded<C>(shape.value_dim) : 0;
  const int64_t row_size =
      round_up(larger(want.dv.cols, larger(want.dk_rope.cols, want.dk_nope.cols)), kCacheLine);
  Carver<C> size(nullptr);
  carve(size, shape);
  const int64_t thread_size = larger(size.used(), row_size);
  const Scratch<C> scratch(threads * thread_size);
  const Scratch<C> dk(tasks * dk_size), dv(tasks * dv_size);
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    C* const mine = scratch.data() + omp_get_thread_num() * thread_size;
    Carver<C> carver(mine);
    const BackwardTiles<C> t = carve(carver, shape);
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) {
      const KeySums<C> sums{dk_size > 0 ? dk.data() + task * dk_size : nullptr,
                            dv_size > 0 ? dv.data() + task * dv_size : nullptr};
      const int64_t unit = task / sets.count;
      backward_task<T>(t, sums, want, in, shape, unit / shape.kv_heads, unit % shape.kv_heads, sets,
                       task % sets.count);
    }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < shape.batch * shape.keys; ++row) {
      const int64_t b = row / shape.keys, key = row % shape.keys;
      if (want.dk_rope.data != nullptr) {
        store_key_row<T>(want.dk_rope, true, mine, dk.data(), shape, sets.count, b, key);
      }
      if (want.dk_nope.data != nullptr) {
        store_key_row<T>(want.dk_nope, false, mine, dk.data(), shape, sets.count, b, key);
      }
      if (want.dv.data != nullptr) {
        store_value_row<T>(want.dv, mine, dv.data(), shape, sets.count, b, key);
      }
    }
  }
}

}  // namespace

void attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout, ConstView q,
                        ConstView k_rope, ConstView k_nope, ConstView v, ConstView out,
                        ConstView lse, const AttentionShape& shape) {
  const Gradients want{dq, dk_rope, dk_nope, dv};
  const Inputs in{dout, q, k_rope, k_nope, v, out, lse};
  switch (q.dtype) {
    case DType::f32:
      return backward<float>(want, in, shape);
    case DType::bf16:
      return backward<bf16>(want, in, shape);
    case DType::f64:
      return backward<double>(want, in, shape);
    case DType::i32:
      break;  // the ops hand over floating types only
  }
}

}  // namespace ag::AG_ISA
