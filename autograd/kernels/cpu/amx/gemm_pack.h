// Pieces of bf16 matrices in the order of tiles. A piece is 32 x 32 elements of the source and
// becomes two tiles of 1 KiB, one behind the other:
//   left    rows of op(a): tile row i = 32 elements along the sum of row i
//   right   columns of op(b): tile row p, lane n = elements (2p, n) and (2p + 1, n)
// What lies outside of the source is zero.
#pragma once

#include "autograd/core/view.h"
#include "autograd/kernels/cpu/amx/intrinsics.h"
#include "autograd/kernels/cpu/amx/tile.h"

namespace ag::AG_ISA {

inline constexpr int64_t kPiece = 32;
inline constexpr int64_t kPieceElements = kPiece * kPiece;

// One operand of a product: element (i, l) of the op, l along the sum.
struct GemmOperand {
  const bf16* data;
  int64_t ld;
  int64_t rows, cols;  // as stored
};

AG_INLINE __m512i load_row(const bf16* p) { return _mm512_loadu_si512(p); }
AG_INLINE void store_row(bf16* p, __m512i row) { _mm512_store_si512(p, row); }

// Four rows, `step` apart, 16 bytes of each: lane l is row l.
AG_INLINE __m512i load_lanes(const bf16* p, int64_t step) {
  const auto lane = [&](int64_t l) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + l * step));
  };
  __m512i v = _mm512_castsi128_si512(lane(0));
  v = _mm512_inserti32x4(v, lane(1), 1);
  v = _mm512_inserti32x4(v, lane(2), 2);
  return _mm512_inserti32x4(v, lane(3), 3);
}

// left from a source whose columns are the rows of the op. For eight columns at a time: lane l of
// v[i] is source row 8 l + i, and three rounds of interleaving turn the eight 8 x 8 squares.
AG_INLINE void pack_left_columns(bf16* tiles, const bf16* x, int64_t ld) {
  for (int64_t c = 0; c < kPiece; c += 8) {
    __m512i v[8], w[8];
#pragma GCC unroll 8
    for (int64_t i = 0; i < 8; ++i) v[i] = load_lanes(x + i * ld + c, 8 * ld);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      w[2 * i] = _mm512_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
      w[2 * i + 1] = _mm512_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
    }
    // w[2 i + h]: columns 4 h .. 4 h + 3 of rows 2 i, 2 i + 1.
#pragma GCC unroll 2
    for (int64_t h = 0; h < 2; ++h) {
      v[4 * h] = _mm512_unpacklo_epi32(w[h], w[2 + h]);
      v[4 * h + 1] = _mm512_unpacklo_epi32(w[4 + h], w[6 + h]);
      v[4 * h + 2] = _mm512_unpackhi_epi32(w[h], w[2 + h]);
      v[4 * h + 3] = _mm512_unpackhi_epi32(w[4 + h], w[6 + h]);
    }
#pragma GCC unroll 4
    for (int64_t q = 0; q < 4; ++q) {
      bf16* row = tiles + (c + 2 * q) * kPiece;
      store_row(row, _mm512_unpacklo_epi64(v[2 * q], v[2 * q + 1]));
      store_row(row + kPiece, _mm512_unpackhi_epi64(v[2 * q], v[2 * q + 1]));
    }
  }
}

// right from a source whose rows run along the sum.
AG_INLINE void pack_right_rows(bf16* tiles, const bf16* x, int64_t ld) {
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
#pragma GCC unroll 4
  for (int64_t p = 0; p < kPiece / 2; ++p) {
    const __m512i even = load_row(x + 2 * p * ld), odd = load_row(x + (2 * p + 1) * ld);
    const __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
    store_row(tiles + p * kPiece, _mm512_permutex2var_epi64(low, first, high));
    store_row(tiles + kPieceElements / 2 + p * kPiece,
              _mm512_permutex2var_epi64(low, second, high));
  }
}

// right from a source whose columns run along the sum: transposed by pairs. For four pairs at a
// time: lane l of v[i] is source row 4 l + i.
AG_INLINE void pack_right_columns(bf16* tiles, const bf16* x, int64_t ld) {
  for (int64_t half = 0; half < 2; ++half) {
    const bf16* rows = x + half * 16 * ld;
    bf16* tile = tiles + half * kPieceElements / 2;
#pragma GCC unroll 4
    for (int64_t c = 0; c < 4; ++c) {
      __m512i v[4];
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) v[i] = load_lanes(rows + i * ld + 8 * c, 4 * ld);
      const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
      const __m512i d = _mm512_unpackhi_epi32(v[0], v[1]), e = _mm512_unpackhi_epi32(v[2], v[3]);
      bf16* out = tile + 4 * c * kPiece;
      store_row(out, _mm512_unpacklo_epi64(a, b));
      store_row(out + kPiece, _mm512_unpackhi_epi64(a, b));
      store_row(out + 2 * kPiece, _mm512_unpacklo_epi64(d, e));
      store_row(out + 3 * kPiece, _mm512_unpackhi_epi64(d, e));
    }
  }
}

// 32 elements of which the first `count` are there.
AG_INLINE __m512i load_part(const bf16* p, int64_t count) {
  return _mm512_maskz_loadu_epi16(lanes_below(count), p);
}

// The piece that begins at (row, col) of the source into the second cache.
AG_INLINE void prefetch_piece(const GemmOperand& x, int64_t row, int64_t col) {
  for (int64_t i = 0; i < kPiece; ++i) {
    _mm_prefetch(x.data + (row + i) * x.ld + col, _MM_HINT_T1);
  }
}

using Pack = void (*)(bf16* tiles, const bf16* x, int64_t ld);

// Packs the piece that begins at (row, col) of the source. Pieces at the edge, and those whose rows
// would fall into the same few sets of the first cache, go through a copy.
template <Pack kPack>
AG_INLINE void pack_piece(bf16* tiles, const GemmOperand& x, int64_t row, int64_t col) {
  const int64_t rows = x.rows - row, cols = x.cols - col;
  const bf16* source = x.data + row * x.ld + col;
  const bool aliased = x.ld % 1024 == 0;
  if (rows >= kPiece && cols >= kPiece && !aliased) return kPack(tiles, source, x.ld);
  alignas(64) bf16 copy[kPieceElements];
  for (int64_t i = 0; i < kPiece; ++i) {
    store_row(copy + i * kPiece, i < rows ? load_part(source + i * x.ld, cols) : __m512i{});
  }
  kPack(tiles, copy, kPiece);
}

// left from a source whose rows are those of the op: 32 rows from (row, col) and `depth` columns,
// copied row by row.
AG_INLINE void pack_left_rows(bf16* tiles, const GemmOperand& x, int64_t row, int64_t col,
                              int64_t depth) {
  for (int64_t i = 0; i < kPiece; ++i) {
    const bf16* source = x.data + (row + i) * x.ld + col;
    for (int64_t l = 0; l < depth; l += kPiece) {
      store_row(tiles + l * kPiece + i * kPiece,
                row + i < x.rows ? load_part(source + l, depth - l) : __m512i{});
    }
  }
}

}  // namespace ag::AG_ISA
