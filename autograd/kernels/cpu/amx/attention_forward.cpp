// Attention forward on AMX tiles for bf16: out = softmax(scale q k^T, causal) v by online softmax.
// Transposed: S^T = K Q^T, P^T = exp(S^T - reference), O^T = V^T P^T, so a query is a lane. P is
// rounded to bf16; sums, scores and the softmax are f32.
//
// Every query is one thread's work and depends on nothing but its inputs: its bits are the same for
// any number of threads.
#include "autograd/kernels/cpu/amx/amx.h"
#include "autograd/kernels/cpu/amx/attention_online_softmax.h"
#include "autograd/kernels/cpu/amx/attention_products.h"
#include "autograd/kernels/cpu/amx/attention_store.h"

namespace ag::AG_ISA {
namespace {

constexpr int64_t kKeyChunks = 4;  // chunks of keys between two looks at the maximum

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
  bf16 *q, *probabilities;      // right over columns; right of O^T, per chunk of keys
  float *scores, *next_scores;  // per chunk of keys
  float* out_transposed;        // per block of value_dim
};

QueryTiles carve(Carver<float>& carver, const Sizes& n) {
  QueryTiles t;
  t.scores = carver.take(kKeyChunks * kBlockValues);
  t.next_scores = carver.take(kKeyChunks * kBlockValues);
  t.out_transposed = carver.take(n.value_chunk());
  t.probabilities = reinterpret_cast<bf16*>(carver.take(kKeyChunks * kBlockValues / 2));
  t.q = reinterpret_cast<bf16*>(carver.take(n.key_chunk() / 2));
  return t;
}

// O^T, references and sums of a chunk of queries over the first `chunks` chunks of keys. The scores
// of the next keys are multiplied while the exponentials of these are computed.
void attend(Softmax (&softmax)[2], const QueryTiles& t, const Sizes& n, const bf16* k,
            const bf16* v, Diagonal diagonal, int64_t chunks, float log2_scale) {
  const __m512 scale = _mm512_set1_ps(log2_scale);
  float *scores = t.scores, *next_scores = t.next_scores;
  const int64_t half_chunk = n.key_blocks * kTileValues;
  hold_queries(t.q, n.key_blocks);
  for (int64_t half = 0; half < 2 * smaller(kKeyChunks, chunks); ++half) {
    multiply_scores_of_keys(scores + half * 2 * kSumValues, k + half * half_chunk, t.q,
                            n.key_blocks);
  }
  for (int64_t first = 0; first < chunks; first += kKeyChunks) {
    const int64_t count = smaller(kKeyChunks, chunks - first);
    const int64_t next = smaller(kKeyChunks, chunks - first - count);
    for (int64_t c = 0; c < count; ++c) hide(scores + c * kBlockValues, diagonal, first + c);
    for (int64_t half = 0; half < 2; ++half) {
      raise_reference(softmax[half], scores + half * kSumValues, count, scale,
                      t.out_transposed + half * kSumValues, first > 0 ? n.value_blocks : 0);
    }
    if (first > 0) hold_queries(t.q, n.key_blocks);
    for (int64_t half = 0; half < 2 * count; ++half) {  // of a chunk of keys
      if (half < 2 * next) {
        multiply_scores_of_keys(next_scores + half * 2 * kSumValues,
                                k + (2 * (first + count) + half) * half_chunk, t.q, n.key_blocks);
      }
      bf16* const to = t.probabilities + half / 2 * kBlockValues + half % 2 * 8 * kTileDepth;
      const float* const from = scores + half * 2 * kSumValues;
      exponentials(softmax[0], to, from, scale);
      exponentials(softmax[1], to + kTileValues, from + kSumValues, scale);
    }
    for (int64_t b = 0; b < n.value_blocks; ++b) {
      multiply_pairs(t.out_transposed + b * kBlockValues, 2 * kSumValues,
                     {v + first * n.value_chunk() + b * kBlockValues, kTileValues, n.value_chunk()},
                     {t.probabilities, kTileValues, kBlockValues}, count, first > 0);
    }
    float* const done = scores;
    scores = next_scores;
    next_scores = done;
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
    // The next head's queries, or this chunk's successor of the first head.
    const bool last = h + 1 == (g + 1) * n.group;
    const int64_t ahead = last ? smaller(kChunk, shape.queries - first - rows) : rows;
    prefetch_rows(head_rows(in.q, last ? row + rows : row,
                            (last ? g * n.group : h + 1) * shape.head_dim, shape.head_dim),
                  0, ahead);
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

constexpr int64_t kAhead = 2;  // chunks of keys that are asked for before they are packed

void pack_chunk(bf16* k, bf16* v, const Inputs& in, const AttentionShape& shape, const Sizes& n,
                int64_t b, int64_t g, int64_t c) {
  const int64_t first = c * kChunk, rows = smaller(kChunk, shape.keys - first);
  const int64_t row = b * shape.keys;
  const HeadRows keys = key_rows(in.k_rope, in.k_nope, row, key_parts(shape, g));
  const HeadRows values = head_rows(in.v, row, g * shape.value_dim, shape.value_dim);
  const int64_t next = first + kAhead * kChunk, ahead = smaller(kChunk, shape.keys - next);
  prefetch_rows(keys, next, ahead);
  prefetch_rows(values, next, ahead);
  pack_left_over_columns(k + c * n.key_chunk(), keys, first, rows);
  pack_left_over_rows(v + c * n.value_chunk(), values, first, rows);
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
