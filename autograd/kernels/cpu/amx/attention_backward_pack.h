// What attention backward packs: the keys and values of a kv head, and spans of queries.
#pragma once

#include "autograd/kernels/cpu/amx/attention_backward_block.h"

namespace ag::AG_ISA {

struct BackwardInputs {
  ConstView dout, q, k_rope, k_nope, v, out, lse;
};

inline constexpr int64_t kAhead = 2;  // chunks of keys that are asked for before they are packed

inline void pack_keys(const KeyTiles& k, const BlockSizes& n, const BackwardInputs& in,
                      const AttentionShape& shape, int64_t b, int64_t g) {
  const HeadRows keys = key_rows(in.k_rope, in.k_nope, b * shape.keys, key_parts(shape, g));
  const HeadRows values = head_rows(in.v, b * shape.keys, g * shape.value_dim, shape.value_dim);
  for (int64_t c = 0; c < chunks_of(shape.keys); ++c) {
    const int64_t first = c * kChunk, rows = smaller(kChunk, shape.keys - first);
    const int64_t next = first + kAhead * kChunk, ahead = smaller(kChunk, shape.keys - next);
    prefetch_rows(keys, next, ahead);
    prefetch_rows(values, next, ahead);
    pack_left_over_columns(k.k_over_columns + c * n.key_chunk(), keys, first, rows);
    pack_left_over_rows(k.k_over_rows + c * n.key_chunk(), keys, first, rows);
    pack_left_over_columns(k.v_over_columns + c * n.value_chunk(), values, first, rows);
  }
}

// Chunks of queries [first, first + count) of head h of sequence b.
struct Span {
  int64_t b, h, first, count;
};

// The rows of a span in the three inputs that queries have.
struct SpanRows {
  HeadRows q, dout, out;
  int64_t rows;

  SpanRows(const BackwardInputs& in, const AttentionShape& shape, const Span& s)
      : rows(smaller(s.count * kChunk, shape.queries - s.first * kChunk)) {
    const int64_t row = s.b * shape.queries + s.first * kChunk;
    q = head_rows(in.q, row, s.h * shape.head_dim, shape.head_dim);
    dout = head_rows(in.dout, row, s.h * shape.value_dim, shape.value_dim);
    out = head_rows(in.out, row, s.h * shape.value_dim, shape.value_dim);
  }
  int64_t of_chunk(int64_t c) const { return smaller(kChunk, rows - c * kChunk); }
  void prefetch(int64_t first, int64_t count) const {
    count = smaller(count, rows - first);
    prefetch_rows(q, first, count);
    prefetch_rows(dout, first, count);
    prefetch_rows(out, first, count);
  }
};

// delta of `rows` queries from row `first` on, 0 for the rest of the chunk.
inline void sum_delta(float* delta, const SpanRows& x, int64_t first, int64_t rows,
                      int64_t blocks) {
  for (int64_t i = 0; i < kChunk; ++i) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; ++block) {
      const ColumnBlock columns(x.dout, block);
      const __m512i dout = columns.load(x.dout, first + i, first + rows);
      const __m512i out = columns.load(x.out, first + i, first + rows);
      sum =
          _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(dout), reinterpret_cast<__m512bh>(out));
    }
    delta[i] = _mm512_reduce_add_ps(sum);
  }
}

// Chunk c of a span into chunk c of QueryTiles; `lse` is that of the span's first query.
inline void pack_queries(const QueryTiles& q, const BlockSizes& n, const SpanRows& x,
                         const float* lse, int64_t c) {
  const int64_t first = c * kChunk, rows = x.of_chunk(c);
  pack_right_over_columns(q.q_over_columns + c * n.key_chunk(), x.q, first, rows);
  pack_right_over_rows(q.q_over_rows + c * n.key_chunk(), x.q, first, rows);
  pack_right_over_columns(q.dout_over_columns + c * n.value_chunk(), x.dout, first, rows);
  pack_right_over_rows(q.dout_over_rows + c * n.value_chunk(), x.dout, first, rows);
  sum_delta(q.delta + first, x, first, rows, n.value_blocks);
  for (int64_t half = 0; half < kChunk; half += 16) {
    const auto mask = static_cast<__mmask16>(lanes_below(smaller(16, rows - half)));
    const __m512 infinite = _mm512_set1_ps(__builtin_inff());
    const __m512 y = _mm512_mask_loadu_ps(infinite, mask, lse + first + half);
    _mm512_store_ps(q.lse + first + half, _mm512_mul_ps(y, _mm512_set1_ps(kLog2E)));
  }
}

}  // namespace ag::AG_ISA
