// Gradients of keys and values from tiles in f32 to rows of bf16. The tiles of a kv head may be
// several parts, which are added in their order; heads may share columns of the keys.
#pragma once

#include "autograd/kernels/cpu/amx/attention_store.h"

namespace ag::AG_ISA {

// Tiles (half of the rows, interleaved half of a block) of one chunk, in `parts` parts.
struct GradientTiles {
  const float* first;
  int64_t step, parts;  // from part to part
  int64_t blocks;

  // Columns of block b of row j.
  AG_INLINE Columns row(int64_t j, int64_t b, __m512 factor) const {
    const float* p = first + (j / 16 * 2 * blocks + 2 * b) * kSumValues + j % 16 * 16;
    Columns sum{_mm512_load_ps(p), _mm512_load_ps(p + kSumValues)};
    for (int64_t part = 1; part < parts; ++part) {
      p += step;
      sum.low = _mm512_add_ps(sum.low, _mm512_load_ps(p));
      sum.high = _mm512_add_ps(sum.high, _mm512_load_ps(p + kSumValues));
    }
    return in_order({_mm512_mul_ps(sum.low, factor), _mm512_mul_ps(sum.high, factor)});
  }
};

inline void store_value_gradients(View dv, int64_t row, int64_t column, int64_t width, int64_t rows,
                                  const GradientTiles& tiles) {
  const __m512 one = _mm512_set1_ps(1);
  for (int64_t j = 0; j < rows; ++j) {
    bf16* const to = dv.row<bf16>(row + j) + column;
    for (int64_t b = 0; b < tiles.blocks; ++b) {
      store_columns(to + b * kChunk, lanes_below(width - b * kChunk), tiles.row(j, b, one),
                    dv.accumulate);
    }
  }
}

// Where the columns of block b of a key belong: those of `rope` at k_rope + rope_offset, ...
struct KeyPlaces {
  __mmask32 rope, nope;
  int64_t rope_offset, nope_offset;

  KeyPlaces(const KeyParts& parts, int64_t b)
      : rope(lanes_below(parts.rope_width - b * kChunk)),
        nope(lanes_below(parts.rope_width + parts.nope_width - b * kChunk) & ~rope),
        rope_offset(parts.rope_begin + b * kChunk),
        nope_offset(parts.nope_begin + b * kChunk - parts.rope_width) {}
};

// Requires: no column of either gradient belongs to two kv heads.
inline void store_key_gradients(View dk_rope, View dk_nope, int64_t row, int64_t rows,
                                const KeyParts& parts, const GradientTiles& tiles, float scale) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t b = 0; b < tiles.blocks; ++b) {
    const KeyPlaces places(parts, b);
    const bool rope = dk_rope.data != nullptr && places.rope != 0;
    const bool nope = dk_nope.data != nullptr && places.nope != 0;
    for (int64_t j = 0; j < rows; ++j) {
      const Columns x = tiles.row(j, b, factor);
      if (rope) {
        store_columns(dk_rope.row<bf16>(row + j) + places.rope_offset, places.rope, x,
                      dk_rope.accumulate);
      }
      if (nope) {
        store_columns(dk_nope.row<bf16>(row + j) + places.nope_offset, places.nope, x,
                      dk_nope.accumulate);
      }
    }
  }
}

AG_INLINE void add_columns(float* y, __mmask32 mask, Columns x) {
  const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  const __m512 first = _mm512_maskz_loadu_ps(low, y), second = _mm512_maskz_loadu_ps(high, y + 16);
  _mm512_mask_storeu_ps(y, low, _mm512_add_ps(first, x.low));
  _mm512_mask_storeu_ps(y + 16, high, _mm512_add_ps(second, x.high));
}

// Floats that hold a row of n columns for store_shared_key_row.
AG_INLINE int64_t wide_row(int64_t n) { return chunks_of(n) * kChunk; }

// One row of dk (rotary or NoPE), to which kv head g adds row j of tiles_of(g), heads in order.
template <class TilesOf>
void store_shared_key_row(View dk, bool rope, int64_t row, int64_t j, const AttentionShape& shape,
                          TilesOf tiles_of, float* wide) {
  const __m512 factor = _mm512_set1_ps(static_cast<float>(shape.scale));
  fill(wide, wide_row(dk.cols), 0.0F);
  for (int64_t g = 0; g < shape.kv_heads; ++g) {
    const GradientTiles tiles = tiles_of(g);
    const KeyParts parts = key_parts(shape, g);
    for (int64_t b = 0; b < tiles.blocks; ++b) {
      const KeyPlaces places(parts, b);
      add_columns(wide + (rope ? places.rope_offset : places.nope_offset),
                  rope ? places.rope : places.nope, tiles.row(j, b, factor));
    }
  }
  for (int64_t b = 0; b < chunks_of(dk.cols); ++b) {
    const float* const from = wide + b * kChunk;
    store_columns(dk.row<bf16>(row) + b * kChunk, lanes_below(dk.cols - b * kChunk),
                  {_mm512_load_ps(from), _mm512_load_ps(from + 16)}, dk.accumulate);
  }
}

}  // namespace ag::AG_ISA
