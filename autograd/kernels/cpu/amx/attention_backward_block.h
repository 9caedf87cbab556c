// One block of attention backward on AMX tiles: up to kBlockChunks chunks of keys against as many
// of queries, everything transposed (a query is a lane):
//   P^T = exp(S^T - lse), dS^T = P^T (V dO^T - delta), both rounded to bf16,
//   dV += P^T dO, dK += dS^T Q, dQ^T += K^T dS^T (the last two without the factor `scale`).
#pragma once

#include "autograd/kernels/cpu/amx/attention_products.h"
#include "autograd/kernels/cpu/amx/attention_softmax.h"

namespace ag::AG_ISA {

inline constexpr int64_t kBlockChunks = 4;
inline constexpr int64_t kScoreChunks =
    2;  // of queries whose scores exist at a time, per chunk of keys

// What is wanted of a call.
struct Wanted {
  bool dq, dk, dv;
  bool scores() const { return dq || dk; }
};

// Keys of one kv head, packed, and its gradients: tiles (half of the keys, interleaved half of a
// block) per chunk.
struct KeyTiles {
  bf16 *k_over_columns, *k_over_rows, *v_over_columns;  // left operands
  float *dk, *dv;
};

// Some chunks of queries of one head, packed.
struct QueryTiles {
  bf16 *q_over_columns, *q_over_rows, *dout_over_columns, *dout_over_rows;  // right operands
  float *lse, *delta;  // of a query; lse in log2, infinite where there is no query
  float* dq;  // transposed: per chunk, tiles (interleaved half of a block, half of the queries)
};

// Within a block.
struct BlockTiles {
  float *scores, *dprobabilities;  // one chunk of keys: S^T, dP^T per chunk of queries
  bf16 *p_left, *ds_left;          // tile (chunk of keys, half of them, chunk of queries)
  bf16* ds_right;                  // two tiles (chunk of keys, chunk of queries)
};

struct BlockSizes {
  int64_t key_blocks, value_blocks;  // of head_dim and value_dim
  int64_t key_chunk() const { return key_blocks * kBlockValues; }
  int64_t value_chunk() const { return value_blocks * kBlockValues; }
};

// A block: chunks of keys [key, key + keys), chunks of queries [query, query + queries) of those in
// QueryTiles; `sees` is the last key that the first of these queries sees.
struct Block {
  int64_t key, keys, query, queries, sees;

  // First chunk of queries, counted from `query`, that sees a key of chunk key + c.
  int64_t first_query(int64_t c) const {
    const int64_t distance = (key + c) * kChunk - sees - (kChunk - 1);
    return distance <= 0 ? 0 : chunks_of(distance);
  }
  // Number of the block's chunks of keys of which chunk query + i sees a key.
  int64_t keys_of(int64_t i) const {
    const int64_t last = sees + i * kChunk + kChunk - 1;
    return last < key * kChunk ? 0 : smaller(keys, last / kChunk + 1 - key);
  }
};

// P and dS of one chunk of keys and one of queries. Key j is seen by the lanes from hidden + j on
// when kDiagonal, else by all.
template <bool kDiagonal>
void probabilities_and_gradients(const BlockTiles& t, const QueryTiles& q, int64_t c, int64_t i,
                                 int64_t slot, int64_t query, int64_t hidden, float log2_scale) {
  const float *const scores = t.scores + slot * kBlockValues, *const dp = t.dprobabilities +
                                                                          slot * kBlockValues;
  const int64_t left = (2 * c * kBlockChunks + i) * kTileValues;
  bf16* const ds_right = t.ds_right + (c * kBlockChunks + i) * kBlockValues;
  const __m512 scale = _mm512_set1_ps(log2_scale);
  for (int64_t half = 0; half < 2; ++half) {  // of the keys
    bf16* const p_left = t.p_left + left + half * kBlockChunks * kTileValues;
    bf16* const ds_left = t.ds_left + left + half * kBlockChunks * kTileValues;
#pragma GCC unroll 4
    for (int pair = 0; pair < 8; ++pair) {
      __m512 p[2][2], ds[2][2];  // [key of the pair][half of the queries]
#pragma GCC unroll 2
      for (int n = 0; n < 2; ++n) {
        const __m512 lse = _mm512_load_ps(q.lse + query * kChunk + n * 16);
        const __m512 delta = _mm512_load_ps(q.delta + query * kChunk + n * 16);
#pragma GCC unroll 2
        for (int key = 0; key < 2; ++key) {
          const int64_t at = (2 * half + n) * kSumValues + (2 * pair + key) * 16;
          p[key][n] = exp2(_mm512_fmsub_ps(_mm512_load_ps(scores + at), scale, lse));
          if constexpr (kDiagonal) {
            const int64_t from = hidden + half * 16 + 2 * pair + key - n * 16;
            p[key][n] = _mm512_maskz_mov_ps(lanes_from(from), p[key][n]);
          }
          ds[key][n] = _mm512_mul_ps(p[key][n], _mm512_sub_ps(_mm512_load_ps(dp + at), delta));
        }
        _mm512_store_si512(ds_right + n * kTileValues + (half * 8 + pair) * kTileDepth,
                           interleave_halves(narrow_two(ds[0][n], ds[1][n])));
      }
#pragma GCC unroll 2
      for (int key = 0; key < 2; ++key) {
        const int64_t row = (2 * pair + key) * kTileDepth;
        _mm512_store_si512(p_left + row, narrow_two(p[key][0], p[key][1]));
        _mm512_store_si512(ds_left + row, narrow_two(ds[key][0], ds[key][1]));
      }
    }
  }
}

// P and dS of the whole block.
inline void block_scores(const BlockTiles& t, const KeyTiles& k, const QueryTiles& q,
                         const Wanted& want, const BlockSizes& n, const Block& block,
                         float log2_scale) {
  for (int64_t c = 0; c < block.keys; ++c) {
    const int64_t first = block.first_query(c), count = block.queries - first;
    if (count <= 0) break;
    const int64_t key = block.key + c;
    const bf16* const k_tiles = k.k_over_columns + key * n.key_chunk();
    const bf16* const v_tiles = k.v_over_columns + key * n.value_chunk();
    for (int64_t i = first; i < block.queries; ++i) {
      const int64_t slot = (i - first) % kScoreChunks;
      if (slot == 0) {
        const int64_t query = block.query + i, some = smaller(kScoreChunks, block.queries - i);
        multiply_scores_of_queries(t.scores, k_tiles, q.q_over_columns + query * n.key_chunk(),
                                   some, n.key_blocks);
        if (want.scores()) {
          multiply_scores_of_queries(t.dprobabilities, v_tiles,
                                     q.dout_over_columns + query * n.value_chunk(), some,
                                     n.value_blocks);
        }
      }
      const Diagonal diagonal{block.sees + i * kChunk};
      if (diagonal.whole(key)) {
        probabilities_and_gradients<false>(t, q, c, i, slot, block.query + i, 0, log2_scale);
      } else {
        probabilities_and_gradients<true>(t, q, c, i, slot, block.query + i, diagonal.hidden(key),
                                          log2_scale);
      }
    }
  }
}

// sums [keys of a chunk, columns] += left (P or dS) right (dO or Q) for each chunk of keys.
inline void add_key_gradients(float* sums, const bf16* left, const bf16* right, int64_t blocks,
                              const Block& block) {
  const int64_t chunk = blocks * kBlockValues;
  for (int64_t c = 0; c < block.keys; ++c) {
    const int64_t first = block.first_query(c), count = block.queries - first;
    if (count <= 0) return;
    const TilePair rows{left + (2 * c * kBlockChunks + first) * kTileValues,
                        kBlockChunks * kTileValues, kTileValues};
    for (int64_t b = 0; b < blocks; ++b) {
      const bf16* const columns = right + (block.query + first) * chunk + b * kBlockValues;
      multiply_pairs(sums + (block.key + c) * chunk + 2 * b * kSumValues, 2 * blocks * kSumValues,
                     rows, {columns, kTileValues, chunk}, count, true);
    }
  }
}

inline void backward_block(const BlockTiles& t, const KeyTiles& k, const QueryTiles& q,
                           const Wanted& want, const BlockSizes& n, const Block& block,
                           float log2_scale) {
  block_scores(t, k, q, want, n, block, log2_scale);
  if (want.dv) add_key_gradients(k.dv, t.p_left, q.dout_over_rows, n.value_blocks, block);
  if (want.dk) add_key_gradients(k.dk, t.ds_left, q.q_over_rows, n.key_blocks, block);
  if (!want.dq) return;
  for (int64_t i = 0; i < block.queries; ++i) {
    for (int64_t b = 0; b < n.key_blocks; ++b) {
      multiply_pairs(q.dq + (block.query + i) * n.key_chunk() + b * kBlockValues, 2 * kSumValues,
                     {k.k_over_rows + block.key * n.key_chunk() + b * kBlockValues, kTileValues,
                      n.key_chunk()},
                     {t.ds_right + i * kBlockValues, kTileValues, kBlockChunks * kBlockValues},
                     block.keys_of(i), true);
    }
  }
}

}  // namespace ag::AG_ISA
