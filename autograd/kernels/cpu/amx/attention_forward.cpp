// Attention forward on AMX tiles for bf16: out = softmax(scale q k^T, causal) v by online softmax.
// Transposed: S^T = K Q^T, P^T = exp(S^T - reference), O^T = V^T P^T, so a query is a lane. P is
// rounded to bf16; sums, scores and the softmax are f32.
//
// Every query is one thread's work and depends on nothing but its inputs: its bits are the same for
// any number of threads.
#include "autograd/kernels/cpu/amx/amx.h"
#include "autograd/kernels/cpu/amx/attention_products.h"
#include "autograd/kernels/cpu/amx/attention_softmax.h"
#include "autograd/kernels/cpu/amx/attention_store.h"

namespace ag::AG_ISA {
namespace {

constexpr int64_t kKeyChunks = 4;  // chunks of keys between two looks at the maximum
constexpr float kLowest = -3e38F;  // below every score

struct Sizes {
  int64_t key_chunks, query_chunks, group;
  int64_t key_blocks, value_blocks;  // of head_dim and value_dim

  explicit Sizes(const AttentionShape& s)
      : key_chunks(chunks_of(s.keys)),
        query_chunks(chunks_of(s.queries)),
        group(s.heads / s.kv_heads),
        key_blocks(chunks_of(s.head_dim)),
        value_blocks(chunks_of(s.value_dim)) {}
  int64_t key_chunk() const { return key_blocks * kBlockValues; }
  int64_t value_chunk() const { return value_blocks * kBlockValues; }
  // Packed keys and values of one kv head.
  int64_t packed() const { return key_chunks * (key_chunk() + value_chunk()); }
};

struct Inputs {
  ConstView q, k_rope, k_nope, v;
};

// What a thread needs for one chunk of queries.
struct QueryTiles {
  bf16 *q, *probabilities;         // right over columns; right of O^T, per chunk of keys
  float *scores, *out_transposed;  // per chunk of keys; per block of value_dim
};

QueryTiles carve(Carver<float>& carver, const Sizes& n) {
  QueryTiles t;
  t.scores = carver.take(kKeyChunks * kBlockValues);
  t.out_transposed = carver.take(n.value_chunk());
  t.probabilities = reinterpret_cast<bf16*>(carver.take(kKeyChunks * kBlockValues / 2));
  t.q = reinterpret_cast<bf16*>(carver.take(n.key_chunk() / 2));
  return t;
}

// Running softmax of 16 queries. The reference moves only when the maximum has grown by more than
// 8 (in log2), so sums are rarely rescaled; probabilities then stay below 2^8, where bf16 and f32
// are as precise as below 1.
struct Softmax {
  __m512 reference = _mm512_set1_ps(kLowest), sum = _mm512_setzero_ps();
};

// Hides the keys of chunk `c` that a query must not see.
void hide(float* scores, Diagonal diagonal, int64_t c) {
  if (diagonal.whole(c)) return;
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  for (int64_t j = 0; j < kChunk; ++j) {
    float* const row = scores + j / 16 * 2 * kSumValues + j % 16 * 16;
    for (int64_t half = 0; half < 2; ++half) {
      const __mmask16 sees = lanes_from(diagonal.hidden(c) + j - half * 16);
      float* const p = row + half * kSumValues;
      _mm512_store_ps(p, _mm512_mask_mov_ps(lowest, sees, _mm512_load_ps(p)));
    }
  }
}

// `scores` are those of the 16 queries of `half`; tiles are 2 kSumValues apart.
void raise_reference(Softmax& s, const float* scores, int64_t chunks, __m512 scale,
                     float* out_transposed, int64_t value_blocks) {
  __m512 most[4];
  for (__m512& m : most) m = _mm512_set1_ps(-__builtin_inff());
  for (int64_t t = 0; t < 2 * chunks; ++t, scores += 2 * kSumValues) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      most[i % 4] = _mm512_max_ps(most[i % 4], _mm512_load_ps(scores + i * 16));
    }
  }
  const __m512 largest =
      _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
  const __m512 maximum = _mm512_mul_ps(largest, scale);
  const __mmask16 grown =
      _mm512_cmp_ps_mask(maximum, _mm512_add_ps(s.reference, _mm512_set1_ps(8)), _CMP_GT_OQ);
  if (grown == 0) return;
  const __m512 reference = _mm512_mask_mov_ps(s.reference, grown, maximum);
  const __m512 factor = exp2(_mm512_sub_ps(s.reference, reference));
  s.reference = reference;
  s.sum = _mm512_mul_ps(s.sum, factor);
  for (int64_t tile = 0; tile < 2 * value_blocks; ++tile, out_transposed += 2 * kSumValues) {
    for (int i = 0; i < 16; ++i) {
      float* const p = out_transposed + i * 16;
      _mm512_store_ps(p, _mm512_mul_ps(_mm512_load_ps(p), factor));
    }
  }
}

// 2^(scale score - reference) of 16 queries in pairs of keys.
void exponentials(Softmax& s, bf16* probabilities, const float* scores, int64_t chunks,
                  __m512 scale) {
  __m512 even_sum = _mm512_setzero_ps(), odd_sum = even_sum;
  const __m512 reference = s.reference;
  for (int64_t t = 0; t < 2 * chunks; ++t, scores += 2 * kSumValues) {
    bf16* const to = probabilities + (t / 2 * 2 * kTileRows + t % 2 * 8) * kTileDepth;
#pragma GCC unroll 8
    for (int pair = 0; pair < 8; ++pair) {
      const float* const from = scores + pair * 32;
      const __m512 even = exp2(_mm512_fmsub_ps(_mm512_load_ps(from), scale, reference));
      const __m512 odd = exp2(_mm512_fmsub_ps(_mm512_load_ps(from + 16), scale, reference));
      even_sum = _mm512_add_ps(even_sum, even);
      odd_sum = _mm512_add_ps(odd_sum, odd);
      _mm512_store_si512(to + pair * kTileDepth, interleave_halves(narrow_two(even, odd)));
    }
  }
  s.sum = _mm512_add_ps(s.sum, _mm512_add_ps(even_sum, odd_sum));
}

// O^T, references and sums of a chunk of queries over the first `chunks` chunks of keys.
void attend(Softmax (&softmax)[2], const QueryTiles& t, const Sizes& n, const bf16* k,
            const bf16* v, Diagonal diagonal, int64_t chunks, float log2_scale) {
  const __m512 scale = _mm512_set1_ps(log2_scale);
  for (int64_t first = 0; first < chunks; first += kKeyChunks) {
    const int64_t count = smaller(kKeyChunks, chunks - first);
    multiply_scores_of_keys(t.scores, k + first * n.key_chunk(), t.q, count, n.key_blocks);
    for (int64_t c = 0; c < count; ++c) {
      hide(t.scores + c * kBlockValues, diagonal, first + c);
    }
    for (int64_t half = 0; half < 2; ++half) {
      const float* const scores = t.scores + half * kSumValues;
      raise_reference(softmax[half], scores, count, scale, t.out_transposed + half * kSumValues,
                      first > 0 ? n.value_blocks : 0);
      exponentials(softmax[half], t.probabilities + half * kTileValues, scores, count, scale);
    }
    for (int64_t b = 0; b < n.value_blocks; ++b) {
      multiply_pairs(t.out_transposed + b * kBlockValues, 2 * kSumValues,
                     {v + first * n.value_chunk() + b * kBlockValues, kTileValues, n.value_chunk()},
                     {t.probabilities, kTileValues, kBlockValues}, count, first > 0);
    }
  }
}

void store_lse(View lse, int64_t row, int64_t first, int64_t rows, const Softmax (&softmax)[2]) {
  for (int64_t half = 0; half * 16 < rows; ++half) {
    const __m512 y =
        _mm512_fmadd_ps(softmax[half].reference, _mm512_set1_ps(kLn2), log(softmax[half].sum));
    float* const to = lse.row<float>(row) + first + half * 16;
    const auto mask = static_cast<__mmask16>(lanes_below(smaller(16, rows - half * 16)));
    const __m512 old = lse.accumulate ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
    _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, y));
  }
}

// Chunk `c` of the queries of sequence b, for all query heads of kv head g. k and v are its packed
// keys and values.
void forward_queries(View out, View lse, const Inputs& in, const AttentionShape& shape,
                     const Sizes& n, const QueryTiles& t, const bf16* k, const bf16* v, int64_t b,
                     int64_t g, int64_t c) {
  const int64_t first = c * kChunk, rows = smaller(kChunk, shape.queries - first);
  const Diagonal diagonal{shape.keys - shape.queries + first};
  const int64_t last_key = diagonal.first_query_sees + rows - 1;
  const int64_t chunks = last_key < 0 ? 0 : last_key / kChunk + 1;
  const int64_t row = b * shape.queries + first;
  const float scale = static_cast<float>(shape.scale) * kLog2E;
  for (int64_t h = g * n.group; h < (g + 1) * n.group; ++h) {
    pack_right_over_columns(t.q, head_rows(in.q, row, h * shape.head_dim, shape.head_dim), 0, rows);
    Softmax softmax[2];
    fill(t.out_transposed, chunks > 0 ? 0 : n.value_chunk(), 0.0F);
    attend(softmax, t, n, k, v, diagonal, chunks, scale);
    __m512 factor[2];
    for (int half = 0; half < 2; ++half) {
      const __m512 sum = softmax[half].sum;
      const __mmask16 any = _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_NEQ_UQ);
      factor[half] = _mm512_maskz_div_ps(any, _mm512_set1_ps(1), sum);
    }
    store_transposed(out, row, h * shape.value_dim, shape.value_dim, rows, t.out_transposed,
                     factor);
    if (lse.data != nullptr) store_lse(lse, b * shape.heads + h, first, rows, softmax);
  }
}

void pack_chunk(bf16* k, bf16* v, const Inputs& in, const AttentionShape& shape, const Sizes& n,
                int64_t b, int64_t g, int64_t c) {
  const int64_t first = c * kChunk, rows = smaller(kChunk, shape.keys - first);
  const int64_t row = b * shape.keys;
  pack_left_over_columns(k + c * n.key_chunk(),
                         key_rows(in.k_rope, in.k_nope, row, key_parts(shape, g)), first, rows);
  pack_left_over_rows(v + c * n.value_chunk(),
                      head_rows(in.v, row, g * shape.value_dim, shape.value_dim), first, rows);
}

}  // namespace

void tiled_attention_forward(View out, View lse, ConstView q, ConstView k_rope, ConstView k_nope,
                             ConstView v, const AttentionShape& shape) {
  const Inputs in{q, k_rope, k_nope, v};
  const Sizes n(shape);
  const int64_t units = shape.batch * shape.kv_heads;
  const int64_t threads = larger(1, smaller(units * n.query_chunks, omp_get_max_threads()));
  // Many kv heads: each is one thread's, packed into its part of the scratch, which stays in its
  // cache. Few: all are packed first, then their chunks of queries are shared out, longest first.
  const bool whole = units >= 4 * threads || units % threads == 0;
  Carver<float> size(nullptr);
  carve(size, n);
  const Scratch<float> scratch(threads * size.used());
  const Scratch<bf16> packed((whole ? threads : units) * n.packed());
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    const TileRegisters tiles;
    Carver<float> carver(scratch.data() + omp_get_thread_num() * size.used());
    const QueryTiles t = carve(carver, n);
    const auto keys = [&](int64_t slot) { return packed.data() + slot * n.packed(); };
    const auto values = [&](int64_t slot) { return keys(slot) + n.key_chunks * n.key_chunk(); };
    if (whole) {
      bf16 *const k_tiles = keys(omp_get_thread_num()), *const v_tiles =
                                                            values(omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
      for (int64_t u = 0; u < units; ++u) {
        const int64_t b = u / shape.kv_heads, g = u % shape.kv_heads;
        for (int64_t c = 0; c < n.key_chunks; ++c)
          pack_chunk(k_tiles, v_tiles, in, shape, n, b, g, c);
        for (int64_t c = 0; c < n.query_chunks; ++c) {
          forward_queries(out, lse, in, shape, n, t, k_tiles, v_tiles, b, g, c);
        }
      }
    } else {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < units * n.key_chunks; ++i) {
        const int64_t u = i / n.key_chunks;
        pack_chunk(keys(u), values(u), in, shape, n, u / shape.kv_heads, u % shape.kv_heads,
                   i % n.key_chunks);
      }
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < units * n.query_chunks; ++i) {
        const int64_t u = i % units, c = n.query_chunks - 1 - i / units;
        forward_queries(out, lse, in, shape, n, t, keys(u), values(u), u / shape.kv_heads,
                        u % shape.kv_heads, c);
      }
    }
  }
}

}  // namespace ag::AG_ISA
