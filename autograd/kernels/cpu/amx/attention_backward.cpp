// Attention backward on AMX tiles for bf16, probabilities recomputed from lse, block by block
// (attention_backward_block.h).
//
// A task is a kv head with all its query heads, or one of several fixed sets of its queries when
// there are few kv heads. It walks over spans of queries, which stay packed in the cache, and
// within a span over blocks of keys. dQ of a span is complete when the span ends; dK and dV are
// sums over the task. Sets, spans and the order of all sums follow from the sizes alone: the bits
// are the same for any number of threads.
#include "autograd/kernels/cpu/amx/amx.h"
#include "autograd/kernels/cpu/amx/attention_backward_block.h"
#include "autograd/kernels/cpu/amx/attention_backward_pack.h"
#include "autograd/kernels/cpu/amx/attention_key_gradients.h"

namespace ag::AG_ISA {
namespace {

struct Gradients {
  View dq, dk_rope, dk_nope, dv;

  Wanted wanted() const {
    return {dq.data != nullptr, dk_rope.data != nullptr || dk_nope.data != nullptr,
            dv.data != nullptr};
  }
};

// True when each column of a key gradient belongs to exactly one kv head, so that heads can store
// theirs independently.
bool columns_have_one_owner(View dk, const int64_t* begin, const AttentionShape& shape, bool rope) {
  if (dk.data == nullptr) return true;
  int64_t total = 0;
  for (int64_t g = 0; g < shape.kv_heads; ++g) {
    const auto width = [&](int64_t head) {
      const int64_t w = shape.rope_width.data()[head];
      return rope ? w : shape.head_dim - w;
    };
    total += width(g);
    for (int64_t other = 0; other < g; ++other) {
      if (width(g) > 0 && width(other) > 0 && begin[g] < begin[other] + width(other) &&
          begin[other] < begin[g] + width(g)) {
        return false;
      }
    }
  }
  return total == dk.cols;
}

struct Plan {
  BlockSizes n;
  int64_t key_chunks, query_chunks, group, units;
  QuerySets sets;         // spans are dealt out
  int64_t span = 16;      // chunks of queries
  bool separate_columns;  // of the key gradients

  Plan(const Gradients& want, const AttentionShape& s)
      : n{chunks_of(s.head_dim), chunks_of(s.value_dim)},
        key_chunks(chunks_of(s.keys)),
        query_chunks(chunks_of(s.queries)),
        group(s.heads / s.kv_heads),
        units(s.batch * s.kv_heads),
        sets(units, query_chunks / kBlockChunks),
        separate_columns(columns_have_one_owner(want.dk_rope, s.rope_begin.data(), s, true) &&
                         columns_have_one_owner(want.dk_nope, s.nope_begin.data(), s, false)) {
    if (sets.count == 1) return;
    const int64_t half = (query_chunks + 2 * sets.count - 1) / (2 * sets.count);
    span = smaller(span, round_up(half, kBlockChunks));
  }
  int64_t tasks() const { return units * sets.count; }
  int64_t spans() const { return (query_chunks + span - 1) / span; }
  // A task stores dK and dV itself; else a second pass does, from sums of all tasks.
  bool direct() const { return sets.count == 1 && separate_columns; }
  int64_t sums() const { return key_chunks * (n.key_chunk() + n.value_chunk()); }
};

struct TaskTiles {
  KeyTiles k;
  QueryTiles q;
  BlockTiles block;
};

// f32 pieces from one carver, bf16 pieces from another. dk and dv lie elsewhere.
TaskTiles carve(Carver<float>& wide, Carver<bf16>& narrow, const Plan& p) {
  const int64_t block = kBlockChunks * kBlockValues, chunks = smaller(p.span, p.query_chunks);
  TaskTiles t{};
  t.k.k_over_columns = narrow.take(p.key_chunks * p.n.key_chunk());
  t.k.k_over_rows = narrow.take(p.key_chunks * p.n.key_chunk());
  t.k.v_over_columns = narrow.take(p.key_chunks * p.n.value_chunk());
  t.q.q_over_columns = narrow.take(chunks * p.n.key_chunk());
  t.q.q_over_rows = narrow.take(chunks * p.n.key_chunk());
  t.q.dout_over_columns = narrow.take(chunks * p.n.value_chunk());
  t.q.dout_over_rows = narrow.take(chunks * p.n.value_chunk());
  t.q.lse = wide.take(chunks * kChunk);
  t.q.delta = wide.take(chunks * kChunk);
  t.q.dq = wide.take(chunks * p.n.key_chunk());
  t.block.scores = wide.take(block);
  t.block.dprobabilities = wide.take(block);
  t.block.p_left = narrow.take(kBlockChunks * block);
  t.block.ds_left = narrow.take(kBlockChunks * block);
  t.block.ds_right = narrow.take(kBlockChunks * block);
  return t;
}

constexpr int64_t kPrefetchRows = 64;  // of the next span, per block

// The dq of a span, and what its queries add to dk and dv. `next` is the span that will follow.
void backward_span(const TaskTiles& t, const Plan& p, const Gradients& want,
                   const BackwardInputs& in, const AttentionShape& shape, const Span& span,
                   const Span& next) {
  const Wanted wanted = want.wanted();
  const SpanRows x(in, shape, span), ahead(in, shape, next);
  const float* const lse = in.lse.row<float>(span.b * shape.heads + span.h) + span.first * kChunk;
  for (int64_t c = 0; c < span.count; ++c) pack_queries(t.q, p.n, x, lse, c);
  fill(t.q.dq, wanted.dq ? span.count * p.n.key_chunk() : 0, 0.0F);
  const float log2_scale = static_cast<float>(shape.scale) * kLog2E;
  int64_t prefetched = 0;
  for (int64_t key = 0; key < p.key_chunks; key += kBlockChunks) {
    for (int64_t query = 0; query < span.count; query += kBlockChunks) {
      const Block block{key, smaller(kBlockChunks, p.key_chunks - key), query,
                        smaller(kBlockChunks, span.count - query),
                        shape.keys - shape.queries + (span.first + query) * kChunk};
      if (block.first_query(0) >= block.queries) continue;
      ahead.prefetch(prefetched, kPrefetchRows);
      prefetched += kPrefetchRows;
      backward_block(t.block, t.k, t.q, wanted, p.n, block, log2_scale);
    }
  }
  if (!wanted.dq) return;
  const __m512 scale = _mm512_set1_ps(static_cast<float>(shape.scale));
  const int64_t row = span.b * shape.queries + span.first * kChunk;
  for (int64_t c = 0; c < span.count; ++c) {
    store_transposed(want.dq, row + c * kChunk, span.h * shape.head_dim, shape.head_dim,
                     x.of_chunk(c), t.q.dq + c * p.n.key_chunk(), {scale, scale});
  }
}

// Tiles of chunk c of dk, or of dv, of a unit from its sums of all sets.
GradientTiles key_tiles(const float* sums, const Plan& p, int64_t c) {
  return {sums + c * p.n.key_chunk(), p.sums(), p.sets.count, p.n.key_blocks};
}
GradientTiles value_tiles(const float* sums, const Plan& p, int64_t c) {
  return {sums + p.key_chunks * p.n.key_chunk() + c * p.n.value_chunk(), p.sums(), p.sets.count,
          p.n.value_blocks};
}

// Chunk c of the keys of kv head g from its sums: dv, and dk if its columns are its own.
void store_chunk(const Gradients& want, const Plan& p, const AttentionShape& shape,
                 const float* sums, int64_t b, int64_t g, int64_t c) {
  const int64_t row = b * shape.keys + c * kChunk, rows = smaller(kChunk, shape.keys - c * kChunk);
  const Wanted wanted = want.wanted();
  if (wanted.dv) {
    store_value_gradients(want.dv, row, g * shape.value_dim, shape.value_dim, rows,
                          value_tiles(sums, p, c));
  }
  if (wanted.dk && p.separate_columns) {
    store_key_gradients(want.dk_rope, want.dk_nope, row, rows, key_parts(shape, g),
                        key_tiles(sums, p, c), static_cast<float>(shape.scale));
  }
}

// Chunk c of the keys of sequence b where heads share columns. `sums` is that of its first kv head.
void store_shared_chunk(const Gradients& want, const Plan& p, const AttentionShape& shape,
                        const float* sums, int64_t b, int64_t c, float* wide) {
  const auto tiles_of = [&](int64_t g) {
    return key_tiles(sums + g * p.sets.count * p.sums(), p, c);
  };
  for (int64_t j = 0; j < smaller(kChunk, shape.keys - c * kChunk); ++j) {
    const int64_t row = b * shape.keys + c * kChunk + j;
    if (want.dk_rope.data != nullptr) {
      store_shared_key_row(want.dk_rope, true, row, j, shape, tiles_of, wide);
    }
    if (want.dk_nope.data != nullptr) {
      store_shared_key_row(want.dk_nope, false, row, j, shape, tiles_of, wide);
    }
  }
}

void backward_task(TaskTiles t, float* sums, const Plan& p, const Gradients& want,
                   const BackwardInputs& in, const AttentionShape& shape, int64_t unit,
                   int64_t set) {
  const int64_t b = unit / shape.kv_heads, g = unit % shape.kv_heads;
  t.k.dk = sums;
  t.k.dv = sums + p.key_chunks * p.n.key_chunk();
  fill(sums, p.sums(), 0.0F);
  pack_keys(t.k, p.n, in, shape, b, g);
  // All spans of all heads, each handed over together with the one after it.
  Span last{b, 0, 0, 0};
  for (int64_t h = g * p.group; h < (g + 1) * p.group; ++h) {
    for (int64_t s = 0; s < p.spans(); ++s) {
      if (!p.sets.has(set, s)) continue;
      const int64_t first = s * p.span;
      const Span span{b, h, first, smaller(p.span, p.query_chunks - first)};
      if (last.count > 0) backward_span(t, p, want, in, shape, last, span);
      last = span;
    }
  }
  if (last.count > 0) backward_span(t, p, want, in, shape, last, {b, 0, 0, 0});
  if (!p.direct()) return;
  for (int64_t c = 0; c < p.key_chunks; ++c) store_chunk(want, p, shape, sums, b, g, c);
}

}  // namespace

void tiled_attention_backward(View dq, View dk_rope, View dk_nope, View dv, ConstView dout,
                              ConstView q, ConstView k_rope, ConstView k_nope, ConstView v,
                              ConstView out, ConstView lse, const AttentionShape& shape) {
  const Gradients want{dq, dk_rope, dk_nope, dv};
  const BackwardInputs in{dout, q, k_rope, k_nope, v, out, lse};
  if (!want.wanted().scores() && !want.wanted().dv) return;
  const Plan p(want, shape);
  const int64_t threads = larger(1, smaller(p.tasks(), omp_get_max_threads()));
  Carver<float> wide_size(nullptr);
  Carver<bf16> narrow_size(nullptr);
  carve(wide_size, narrow_size, p);
  const int64_t wide = larger(wide_size.used(), wide_row(larger(dk_rope.cols, dk_nope.cols)));
  const Scratch<float> wide_scratch(threads * wide);
  const Scratch<bf16> narrow_scratch(threads * narrow_size.used());
  const Scratch<float> sums((p.direct() ? threads : p.tasks()) * p.sums());
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    const TileRegisters tiles;
    const int64_t me = omp_get_thread_num();
    Carver<float> wide_carver(wide_scratch.data() + me * wide);
    Carver<bf16> narrow_carver(narrow_scratch.data() + me * narrow_size.used());
    const TaskTiles t = carve(wide_carver, narrow_carver, p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < p.tasks(); ++task) {
      float* const mine = sums.data() + (p.direct() ? me : task) * p.sums();
      backward_task(t, mine, p, want, in, shape, task / p.sets.count, task % p.sets.count);
    }
    if (!p.direct()) {
      const auto sums_of = [&](int64_t unit) {
        return sums.data() + unit * p.sets.count * p.sums();
      };
#pragma omp for schedule(static)
      for (int64_t i = 0; i < shape.batch * p.key_chunks; ++i) {
        const int64_t b = i / p.key_chunks, c = i % p.key_chunks, first = b * shape.kv_heads;
        for (int64_t g = 0; g < shape.kv_heads; ++g) {
          store_chunk(want, p, shape, sums_of(first + g), b, g, c);
        }
        if (want.wanted().dk && !p.separate_columns) {
          store_shared_chunk(want, p, shape, sums_of(first), b, c, wide_scratch.data() + me * wide);
        }
      }
    }
  }
}

}  // namespace ag::AG_ISA
