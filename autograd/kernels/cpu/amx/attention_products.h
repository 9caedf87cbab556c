// Products of packed chunks (attention_pack.h): results are tiles [16][16] f32, one after the
// other.
#pragma once

#include "autograd/kernels/cpu/amx/attention_pack.h"

namespace ag::AG_ISA {

// A pair of tiles of an operand, `step` apart, for each of `depth` products, `depth_step` apart.
struct TilePair {
  const bf16* tiles;
  int64_t step, depth_step;
};

// c [2 x 2 tiles] (+)= sum over depth of the left pair times the right pair. Tile (i, n) of c is at
// c + i * row_step + n * kSumValues.
AG_INLINE void multiply_pairs(float* c, int64_t row_step, TilePair left, TilePair right,
                              int64_t depth, bool accumulate) {
  float* const below = c + row_step;
  if (accumulate) {
    tile_load<0>(c, kTileBytes);
    tile_load<1>(c + kSumValues, kTileBytes);
    tile_load<2>(below, kTileBytes);
    tile_load<3>(below + kSumValues, kTileBytes);
  } else {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
  }
  // Loads between products: four loads in a row, then four products took thrice the time.
  for (int64_t k = 0; k < depth; ++k) {
    tile_load<4>(left.tiles, kTileBytes);
    tile_load<6>(right.tiles, kTileBytes);
    tile_multiply<0, 4, 6>();
    tile_load<7>(right.tiles + right.step, kTileBytes);
    tile_multiply<1, 4, 7>();
    tile_load<5>(left.tiles + left.step, kTileBytes);
    tile_multiply<2, 5, 6>();
    tile_multiply<3, 5, 7>();
    left.tiles += left.depth_step;
    right.tiles += right.depth_step;
  }
  tile_store<0>(c, kTileBytes);
  tile_store<1>(c + kSumValues, kTileBytes);
  tile_store<2>(below, kTileBytes);
  tile_store<3>(below + kSumValues, kTileBytes);
}

// Packed queries of 33 to 64 columns fill four registers, where they stay for many keys.
AG_INLINE bool fits_registers(int64_t blocks) { return blocks == 2; }

AG_INLINE void hold_queries(const bf16* q, int64_t blocks) {
  if (!fits_registers(blocks)) return;
  tile_load<4>(q, kTileBytes);
  tile_load<5>(q + kTileValues, kTileBytes);
  tile_load<6>(q + 2 * kTileValues, kTileBytes);
  tile_load<7>(q + 3 * kTileValues, kTileBytes);
}

// Scores of 16 keys, packed left over columns, and a chunk of queries, which are held: two tiles.
AG_INLINE void multiply_scores_of_keys(float* scores, const bf16* k, const bf16* q,
                                       int64_t blocks) {
  tile_zero<0>();
  tile_zero<1>();
  if (fits_registers(blocks)) {
    tile_load<2>(k, kTileBytes);
    tile_multiply<0, 2, 4>();
    tile_load<3>(k + kTileValues, kTileBytes);
    tile_multiply<1, 2, 5>();
    tile_multiply<0, 3, 6>();
    tile_multiply<1, 3, 7>();
  } else {
    for (int64_t b = 0; b < blocks; ++b, k += kTileValues, q += 2 * kTileValues) {
      tile_load<2>(k, kTileBytes);
      tile_load<4>(q, kTileBytes);
      tile_multiply<0, 2, 4>();
      tile_load<5>(q + kTileValues, kTileBytes);
      tile_multiply<1, 2, 5>();
    }
  }
  tile_store<0>(scores, kTileBytes);
  tile_store<1>(scores + kSumValues, kTileBytes);
}

// Scores of one chunk of keys and `chunks` chunks of queries: per chunk of queries, tiles (half of
// the keys, half of the queries). The same form for dP^T from v and dO.
inline void multiply_scores_of_queries(float* scores, const bf16* k, const bf16* q, int64_t chunks,
                                       int64_t blocks) {
  if (blocks != 2) {
    const TilePair left{k, blocks * kTileValues, kTileValues};
    for (int64_t i = 0; i < chunks; ++i, scores += kBlockValues, q += blocks * kBlockValues) {
      multiply_pairs(scores, 2 * kSumValues, left, {q, kTileValues, 2 * kTileValues}, blocks,
                     false);
    }
    return;
  }
  tile_load<4>(k, kTileBytes);
  tile_load<5>(k + kTileValues, kTileBytes);
  tile_load<6>(k + 2 * kTileValues, kTileBytes);
  tile_load<7>(k + 3 * kTileValues, kTileBytes);
  for (int64_t i = 0; i < chunks; ++i, q += 2 * kBlockValues, scores += kBlockValues) {
    for (int64_t half = 0; half < 2; ++half) {
      float* const c = scores + half * kSumValues;
      tile_load<2>(q + half * kTileValues, kTileBytes);
      tile_zero<0>();
      tile_multiply<0, 4, 2>();
      tile_zero<1>();
      tile_multiply<1, 6, 2>();
      tile_load<3>(q + (2 + half) * kTileValues, kTileBytes);
      tile_multiply<0, 5, 3>();
      tile_multiply<1, 7, 3>();
      tile_store<0>(c, kTileBytes);
      tile_store<1>(c + 2 * kSumValues, kTileBytes);
    }
  }
}

}  // namespace ag::AG_ISA
