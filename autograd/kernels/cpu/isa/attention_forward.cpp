// Attention forward: out = softmax(scale q k^T, causal) v by online softmax over tiles of keys.
// Transposed: S^T = K Q^T, P^T = exp(S^T - max), O^T = V^T P^T, so a query is a lane.
#include <cmath>

#include "autograd/kernels/cpu/isa/attention_tiles.h"

namespace ag::AG_ISA {
namespace {

// A thread's tiles. The whole key and value of one kv head, then what belongs to one query tile.
template <class C>
struct ForwardTiles {
  C *k, *v;                       // [keys, padded(head_dim)], [keys, padded(value_dim)]
  C *q, *q_transposed;            // [kQueryTile, padded(head_dim)] and its transpose
  C* scores;                      // S^T, then P^T [kKeyTile, kQueryTile]
  C *out_transposed, *out;        // [padded(value_dim), kQueryTile] and its transpose
  C *maximum, *sum, *old_factor;  // [kQueryTile] each
};

template <class C>
ForwardTiles<C> carve(Carver<C>& carver, const AttentionShape& shape) {
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  ForwardTiles<C> t;
  t.k = carver.take(shape.keys * key_stride);
  t.v = carver.take(shape.keys * value_stride);
  t.q = carver.take(kQueryTile * key_stride);
  t.q_transposed = carver.take(key_stride * kQueryTile);
  t.scores = carver.take(kKeyTile * kQueryTile);
  t.out_transposed = carver.take(value_stride * kQueryTile);
  t.out = carver.take(kQueryTile * value_stride);
  t.maximum = carver.take(kQueryTile);
  t.sum = carver.take(kQueryTile);
  t.old_factor = carver.take(kQueryTile);
  return t;
}

// Turns the scores of `keys` keys into exp(score - maximum) and brings maximum and sum up to date;
// old_factor is what the sums so far must be multiplied by. Key j is hidden from the lanes below
// first_lane + j. `lanes` is a multiple of the vector width.
template <class C>
void softmax_tile(const ForwardTiles<C>& t, int64_t keys, int64_t lanes, int64_t first_lane) {
  const C infinity = static_cast<C>(INFINITY);
  for (int64_t i = 0; i < lanes; i += kLanes<C>) {
    const Vec<C> old_maximum = load(t.maximum + i);
    Vec<C> maximum = old_maximum;
    for (int64_t j = 0; j < keys; ++j) {
      C* const row = t.scores + j * kQueryTile + i;
      const int64_t hidden = first_lane + j - i;  // this many lanes of the vector do not see key j
      Vec<C> s = load(row);
      if (hidden > 0) {
        using Index = typename LaneInteger<C>::type;
        s = lane_index<C>() < static_cast<Index>(hidden) ? broadcast(-infinity) : s;
        store(row, s);
      }
      maximum = max(maximum, s);
    }
    // A lane that has seen no key yet would compute inf - inf.
    const Vec<C> reference = maximum == -infinity ? Vec<C>{} : maximum;
    Vec<C> sum{};
    for (int64_t j = 0; j < keys; ++j) {
      C* const row = t.scores + j * kQueryTile + i;
      const Vec<C> p = exp(load(row) - reference);
      store(row, p);
      sum += p;
    }
    const Vec<C> old_factor = exp(old_maximum - reference);
    store(t.maximum + i, maximum);
    store(t.sum + i, load(t.sum + i) * old_factor + sum);
    store(t.old_factor + i, old_factor);
  }
}

template <class C>
void rescale(const ForwardTiles<C>& t, int64_t value_dim, int64_t lanes) {
  for (int64_t d = 0; d < value_dim; ++d) {
    for (int64_t i = 0; i < lanes; i += kLanes<C>) {
      C* const p = t.out_transposed + d * kQueryTile + i;
      store(p, load(p) * load(t.old_factor + i));
    }
  }
}

// Leaves in t.out the normalised rows of `count` queries whose first one sees keys [0, visible).
// Negative or zero `visible` is a query without keys.
template <class C>
void attend(const ForwardTiles<C>& t, const AttentionShape& shape, int64_t visible, int64_t count) {
  const int64_t key_stride = padded<C>(shape.head_dim), value_stride = padded<C>(shape.value_dim);
  const int64_t lanes = padded<C>(count);
  transpose(t.q_transposed, kQueryTile, t.q, key_stride, lanes, key_stride);
  fill(t.out_transposed, value_stride * kQueryTile, C(0));
  fill(t.maximum, kQueryTile, static_cast<C>(-INFINITY));
  fill(t.sum, kQueryTile, C(0));
  const int64_t end = smaller(shape.keys, visible + count - 1);
  for (int64_t first = 0; first < end; first += kKeyTile) {
    const int64_t keys = smaller(kKeyTile, end - first);
    multiply(t.scores, kQueryTile, Broadcast<C>{t.k + first * key_stride, key_stride, 1},
             t.q_transposed, kQueryTile, keys, lanes, shape.head_dim, false);
    softmax_tile(t, keys, lanes, first - visible + 1);
    if (first > 0) rescale(t, shape.value_dim, lanes);
    multiply(t.out_transposed, kQueryTile,
             Broadcast<C>{t.v + first * value_stride, 1, value_stride}, t.scores, kQueryTile,
             shape.value_dim, lanes, keys, first > 0);
  }
  for (int64_t d = 0; d < shape.value_dim; ++d) {
    for (int64_t i = 0; i < lanes; i += kLanes<C>) {
      C* const p = t.out_transposed + d * kQueryTile + i;
      const Vec<C> sum = load(t.sum + i);
      store(p, sum == C(0) ? Vec<C>{} : load(p) / sum);
    }
  }
  transpose(t.out, value_stride, t.out_transposed, kQueryTile, value_stride, lanes);
}

template <class T, class C>
void store_queries(View out, View lse, const ForwardTiles<C>& t, const AttentionShape& shape,
                   int64_t b, int64_t h, int64_t first, int64_t count) {
  const int64_t value_stride = padded<C>(shape.value_dim);
  for (int64_t i = 0; i < count; ++i) {
    store_row(out.row<T>(b * shape.queries + first + i) + h * shape.value_dim,
              t.out + i * value_stride, shape.value_dim, C(1), out.accumulate);
  }
  if (lse.data == nullptr) return;
  for (int64_t i = 0; i < count; ++i) {
    t.sum[i] = t.maximum[i] + static_cast<C>(__builtin_log(static_cast<double>(t.sum[i])));
  }
  store_row(lse.row<C>(b * shape.heads + h) + first, t.sum, count, C(1), lse.accumulate);
}

template <class T>
void forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope, ConstView v,
             const AttentionShape& shape) {
  using C = compute_t<T>;
  const int64_t group = shape.heads / shape.kv_heads;
  const QuerySets sets(shape.batch * shape.heads, (shape.queries + kQueryTile - 1) / kQueryTile);
  const int64_t tasks = shape.batch * shape.heads * sets.count;
  const int64_t threads = larger(1, smaller(tasks, omp_get_max_threads()));
  Carver<C> size(nullptr);
  carve(size, shape);
  const Scratch<C> scratch(threads * size.used());
  const C scale = static_cast<C>(shape.scale);
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(threads))
  for (int64_t task = 0; task < tasks; ++task) {
    Carver<C> carver(scratch.data() + omp_get_thread_num() * size.used());
    const ForwardTiles<C> t = carve(carver, shape);
    const int64_t head = task / sets.count, set = task % sets.count;
    const int64_t b = head / shape.heads, h = head % shape.heads, g = h / group;
    pack_keys<T>(t.k, k_rope, k_nope, b * shape.keys, shape.keys, key_parts(shape, g));
    pack_rows<T>(t.v, v, b * shape.keys, shape.keys, g * shape.value_dim, shape.value_dim, C(1));
    for (int64_t first = 0; first < shape.queries; first += kQueryTile) {
      if (!sets.has(set, first / kQueryTile)) continue;
      const int64_t count = smaller(kQueryTile, shape.queries - first);
      pack_rows<T>(t.q, q, b * shape.queries + first, count, h * shape.head_dim, shape.head_dim,
                   scale);
      const int64_t stride = padded<C>(shape.head_dim);
      fill(t.q + count * stride, (padded<C>(count) - count) * stride, C(0));
      attend(t, shape, shape.keys - shape.queries + first + 1, count);
      store_queries<T>(out, lse, t, shape, b, h, first, count);
    }
  }
}

}  // namespace

void attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                       ConstView v, const AttentionShape& shape) {
  switch (q.dtype) {
    case DType::f32:
      return forward<float>(out, lse, q, k_rope, k_nope, v, shape);
    case DType::bf16:
      return forward<bf16>(out, lse, q, k_rope, k_nope, v, shape);
    case DType::f64:
      return forward<double>(out, lse, q, k_rope, k_nope, v, shape);
    case DType::i32:
      break;  // the ops hand over floating types only
  }
}

}  // namespace ag::AG_ISA
