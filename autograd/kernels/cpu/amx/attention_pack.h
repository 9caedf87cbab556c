// Packing of bf16 rows into AMX tiles for attention. A chunk is 32 rows of a head; its columns are
// padded with zeros to blocks of 32, missing rows are zero. A product of tiles sums over the
// columns of its operands (S^T = K Q^T) or over their rows (dV = P^T dO), and an operand stands on
// its left or right: four forms, each of 2 tiles per block, one after the other.
//
// Sums over rows leave the columns of a block in interleaved order, which costs the packing half
// the shuffles: its first tile has columns {0-3, 8-11, 16-19, 24-27}, its second the others.
// Whoever stores such a result puts them back (attention_store.h).
#pragma once

#include "autograd/kernels/cpu/amx/intrinsics.h"
#include "autograd/kernels/cpu/amx/tile.h"
#include "autograd/kernels/cpu/isa/attention_tiles.h"

namespace ag::AG_ISA {

inline constexpr int64_t kChunk = 32;                           // rows, and columns of a block
inline constexpr int64_t kTileValues = kTileRows * kTileDepth;  // bf16 in a tile
inline constexpr int64_t kSumValues = kTileRows * kTilePairs;   // f32 in a tile
inline constexpr int64_t kBlockValues = kChunk * kChunk;        // in two tiles bf16 or four f32

AG_INLINE int64_t chunks_of(int64_t n) { return (n + kChunk - 1) / kChunk; }

// The rows of a head in memory: columns [0, first_width) at `first`, [first_width, width) at
// `second`. Steps are elements from row to row.
struct HeadRows {
  const bf16 *first, *second;
  int64_t first_step, second_step, first_width, width;
};

inline HeadRows head_rows(ConstView x, int64_t row, int64_t column, int64_t width) {
  const bf16* const first = x.row<bf16>(row) + column;
  return {first, first, x.ld, x.ld, width, width};
}

inline HeadRows key_rows(ConstView k_rope, ConstView k_nope, int64_t row, const KeyParts& parts) {
  const int64_t width = parts.rope_width + parts.nope_width;
  if (parts.nope_width == 0) return head_rows(k_rope, row, parts.rope_begin, width);
  if (parts.rope_width == 0) return head_rows(k_nope, row, parts.nope_begin, width);
  return {k_rope.row<bf16>(row) + parts.rope_begin,
          k_nope.row<bf16>(row) + parts.nope_begin,
          k_rope.ld,
          k_nope.ld,
          parts.rope_width,
          width};
}

// Asks for rows [first, first + count) of x, so that they are in the second cache when they are
// packed: in memory a head's rows are short pieces, far from each other.
inline void prefetch_rows(const HeadRows& x, int64_t first, int64_t count) {
  constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(bf16));
  for (int64_t i = first; i < first + count; ++i) {
    const bf16 *const a = x.first + i * x.first_step, *const b = x.second + i * x.second_step;
    for (int64_t d = 0; d < x.first_width; d += kLine) _mm_prefetch(a + d, _MM_HINT_T1);
    for (int64_t d = x.first_width; d < x.width; d += kLine) {
      _mm_prefetch(b + d - x.first_width, _MM_HINT_T1);
    }
  }
}

// Columns [32 b, 32 b + 32) of rows, whose masks are the same for all of them.
class ColumnBlock {
 public:
  ColumnBlock(const HeadRows& x, int64_t b)
      : first_(lanes_below(x.first_width - b * kChunk)),
        second_(lanes_below(x.width - b * kChunk) & ~first_),
        first_offset_(b * kChunk),
        second_offset_(b * kChunk - x.first_width) {}
  // Row `row` of x, zero when it is not below `rows`.
  AG_INLINE __m512i load(const HeadRows& x, int64_t row, int64_t rows) const {
    const __mmask32 keep = row < rows ? ~__mmask32{0} : __mmask32{0};
    __m512i y =
        _mm512_maskz_loadu_epi16(first_ & keep, x.first + row * x.first_step + first_offset_);
    if (second_ == 0) return y;
    const bf16* const rest = x.second + row * x.second_step + second_offset_;
    return _mm512_mask_loadu_epi16(y, second_ & keep, rest);
  }

 private:
  __mmask32 first_, second_;
  int64_t first_offset_, second_offset_;
};

AG_INLINE void transpose_words(__m512i (&row)[16]) {
  transpose_in_registers<float>(reinterpret_cast<Vec<float>(&)[16]>(row));
}

AG_INLINE void store_rows(bf16* tile, const __m512i (&row)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + i * kTileDepth, row[i]);
}

// Rows on the left of sums over columns: tile (half of the rows, block).
inline void pack_left_over_columns(bf16* tiles, const HeadRows& x, int64_t first, int64_t rows) {
  const int64_t blocks = chunks_of(x.width);
  for (int64_t b = 0; b < blocks; ++b) {
    const ColumnBlock columns(x, b);
    for (int64_t i = 0; i < kChunk; ++i) {
      bf16* const tile = tiles + (i / kTileRows * blocks + b) * kTileValues;
      _mm512_store_si512(tile + i % kTileRows * kTileDepth,
                         columns.load(x, first + i, first + rows));
    }
  }
}

// Rows on the right of sums over columns: tile (block, half of the rows), pairs of columns.
inline void pack_right_over_columns(bf16* tiles, const HeadRows& x, int64_t first, int64_t rows) {
  for (int64_t b = 0; b < chunks_of(x.width); ++b) {
    const ColumnBlock columns(x, b);
    for (int64_t half = 0; half < kChunk; half += kTileRows, tiles += kTileValues) {
      __m512i row[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) row[i] = columns.load(x, first + half + i, first + rows);
      transpose_words(row);
      store_rows(tiles, row);
    }
  }
}

// Rows on the right of sums over rows: tile (interleaved half of a block), pairs of rows.
inline void pack_right_over_rows(bf16* tiles, const HeadRows& x, int64_t first, int64_t rows) {
  for (int64_t b = 0; b < chunks_of(x.width); ++b, tiles += 2 * kTileValues) {
    const ColumnBlock columns(x, b);
    for (int64_t pair = 0; pair < kTileRows; ++pair) {
      const __m512i even = columns.load(x, first + 2 * pair, first + rows);
      const __m512i odd = columns.load(x, first + 2 * pair + 1, first + rows);
      bf16* const to = tiles + pair * kTileDepth;
      _mm512_store_si512(to, _mm512_unpacklo_epi16(even, odd));
      _mm512_store_si512(to + kTileValues, _mm512_unpackhi_epi16(even, odd));
    }
  }
}

// Rows on the left of sums over rows: tile (interleaved half of a block), a column per tile row.
inline void pack_left_over_rows(bf16* tiles, const HeadRows& x, int64_t first, int64_t rows) {
  for (int64_t b = 0; b < chunks_of(x.width); ++b, tiles += 2 * kTileValues) {
    const ColumnBlock columns(x, b);
    __m512i low[16], high[16];
#pragma GCC unroll 16
    for (int pair = 0; pair < 16; ++pair) {
      const __m512i even = columns.load(x, first + 2 * pair, first + rows);
      const __m512i odd = columns.load(x, first + 2 * pair + 1, first + rows);
      low[pair] = _mm512_unpacklo_epi16(even, odd);
      high[pair] = _mm512_unpackhi_epi16(even, odd);
    }
    transpose_words(low);
    store_rows(tiles, low);
    transpose_words(high);
    store_rows(tiles + kTileValues, high);
  }
}

}  // namespace ag::AG_ISA
