// c (+)= op(a) op(b) in bf16 on AMX tiles (gemm.h says how the work is cut).
#include "autograd/kernels/cpu/amx/gemm.h"

#include <omp.h>

#include "autograd/kernels/cpu/amx/gemm_pack.h"
#include "autograd/kernels/cpu/amx/gemm_tiles.h"

namespace ag::AG_ISA {
namespace {

struct Range {
  int64_t begin, end;

  int64_t size() const { return end - begin; }
};

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The share of a thread of [0, n), in whole blocks.
Range share_of(int64_t n, int thread, int threads) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  return {smaller(n, blocks * thread / threads * kBlock),
          smaller(n, blocks * (thread + 1) / threads * kBlock)};
}

Range piece(const Range& of, int64_t begin, int64_t size) {
  return {begin, smaller(begin + size, of.end)};
}

// One product as one thread sees it.
struct Product {
  const GemmPlan& plan;
  View c;
  GemmOperand a, b;
  bool transpose_a, transpose_b;
  bf16 *right, *left;
  float* sums;
};

// op(b) [sum, columns]: blocks of 32 columns, in each the tiles along the sum. The source is read
// along its rows.
void pack_right(const Product& p, const Range& sum, const Range& columns) {
  const auto tiles = [&](int64_t l, int64_t j) {
    return p.right + (j - columns.begin) * p.plan.depth + (l - sum.begin) * kBlock;
  };
  if (p.transpose_b) {
    for (int64_t j = columns.begin; j < columns.end; j += kBlock) {
      for (int64_t l = sum.begin; l < sum.end; l += kPiece) {
        pack_piece<pack_right_columns>(tiles(l, j), p.b, j, l);
      }
    }
    return;
  }
  for (int64_t l = sum.begin; l < sum.end; l += kPiece) {
    for (int64_t j = columns.begin; j < columns.end; j += kBlock) {
      pack_piece<pack_right_rows>(tiles(l, j), p.b, l, j);
    }
  }
}

// op(a) [32 rows, sum], packed if it must be.
LeftTiles left_tiles(const Product& p, int64_t row, const Range& sum) {
  if (!p.plan.left_packed) {
    const bf16* first = p.a.data + row * p.a.ld + sum.begin;
    return {reinterpret_cast<const std::byte*>(first), p.a.ld * 2, kTileBytes, p.a.ld * 32};
  }
  for (int64_t l = sum.begin; l < sum.end; l += kPiece) {
    bf16* tiles = p.left + (l - sum.begin) * kBlock;
    if (p.transpose_a) {
      pack_piece<pack_left_columns>(tiles, p.a, l, row);
    } else {
      pack_piece<pack_left_rows>(tiles, p.a, row, l);
    }
  }
  return {reinterpret_cast<const std::byte*>(p.left), kTileBytes, 2048, 1024};
}

// Of the whole sum.
struct Part {
  LeftTiles left;
  const std::byte* right;
  int64_t steps;
  bool first, last;
};

void add_block(const Product& p, const Part& part, int64_t row, int64_t col, float* kept) {
  const int64_t rows = smaller(p.plan.m - row, kBlock), cols = smaller(p.plan.n - col, kBlock);
  if (p.c.dtype == DType::bf16) {
    const Sums sums{kept, kBlock};
    multiply_block(sums, !part.first, part.left, part.right, part.steps, rows, cols);
    if (!part.last) return;
    bf16* c = static_cast<bf16*>(p.c.data) + row * p.c.ld + col;
    return finish_bf16(c, p.c.ld, p.c.accumulate, sums, rows, cols);
  }
  float* c = static_cast<float*>(p.c.data) + row * p.c.ld + col;
  const bool add = p.c.accumulate || !part.first;
  if (rows % 16 == 0 && cols % 16 == 0) {
    return multiply_block({c, p.c.ld}, add, part.left, part.right, part.steps, rows, cols);
  }
  const Sums sums{p.sums, kBlock};
  if (add) load_edge(sums, c, p.c.ld, rows, cols);
  multiply_block(sums, add, part.left, part.right, part.steps, rows, cols);
  store_edge(c, p.c.ld, sums, rows, cols);
}

// Where the next block will look: the tiles of c that it adds to, and its part of the next rows of
// op(a).
void prefetch_next(const Product& p, int64_t row, int64_t block, const Range& columns,
                   const Range& sum) {
  const int64_t next = columns.begin + (block + 1) * kBlock;
  if (p.c.dtype == DType::f32 && next < columns.end) {
    const auto* c =
        reinterpret_cast<const std::byte*>(static_cast<float*>(p.c.data) + row * p.c.ld + next);
    const int64_t rows = smaller(p.plan.m - row, kBlock);
    for (int64_t i = 0; i < rows; ++i) prefetch_lines<2>(c + i * p.c.ld * 4);
  }
  if (p.plan.left_packed || row + kBlock >= p.plan.m) return;
  const int64_t blocks = (columns.size() + kBlock - 1) / kBlock;
  for (int64_t i = block; i < kBlock; i += blocks) {
    const auto* a =
        reinterpret_cast<const char*>(p.a.data + (row + kBlock + i) * p.a.ld + sum.begin);
    for (int64_t l = 0; l < sum.size() * 2; l += 64) _mm_prefetch(a + l, _MM_HINT_T1);
  }
}

// 32 rows times a packed block. `kept` are their sums, if c cannot hold them.
void multiply_rows(const Product& p, int64_t row, const Range& columns, const Range& sum,
                   float* kept) {
  const LeftTiles left = left_tiles(p, row, sum);
  const bool keeps = p.c.dtype == DType::bf16 && p.plan.k > p.plan.depth;
  for (int64_t j = columns.begin; j < columns.end; j += kBlock) {
    const int64_t block = (j - columns.begin) / kBlock;
    prefetch_next(p, row, block, columns, sum);
    const bf16* right = p.right + block * p.plan.depth * kBlock;
    add_block(p,
              {left, reinterpret_cast<const std::byte*>(right),
               (sum.size() + kTileDepth - 1) / kTileDepth, sum.begin == 0, sum.end == p.plan.k},
              row, j, keeps ? kept + block * kBlock * kBlock : p.sums);
  }
}

void multiply_share(const Product& p, const Range& rows, const Range& columns) {
  const GemmPlan& plan = p.plan;
  const Range whole{0, plan.k};
  for (int64_t j = columns.begin; j < columns.end; j += plan.columns) {
    const Range block = piece(columns, j, plan.columns);
    for (int64_t i = rows.begin; i < rows.end; i += plan.rows) {
      const Range strip = piece(rows, i, plan.rows);
      for (int64_t l = 0; l < plan.k; l += plan.depth) {
        const Range sum = piece(whole, l, plan.depth);
        if (i == rows.begin || plan.depth < plan.k) pack_right(p, sum, block);
        for (int64_t row = strip.begin; row < strip.end; row += kBlock) {
          multiply_rows(p, row, block, sum, p.sums + (row - strip.begin) * plan.columns);
        }
      }
    }
  }
}

}  // namespace

void gemm(const GemmPlan& plan, View c, ConstView a, bool transpose_a, ConstView b,
          bool transpose_b, std::byte* scratch) {
#pragma omp parallel num_threads(plan.threads)
  {
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    std::byte* mine = scratch + thread * plan.thread_bytes();
    const Product p{plan,
                    c,
                    {static_cast<const bf16*>(a.data), a.ld, a.rows, a.cols},
                    {static_cast<const bf16*>(b.data), b.ld, b.rows, b.cols},
                    transpose_a,
                    transpose_b,
                    reinterpret_cast<bf16*>(mine),
                    reinterpret_cast<bf16*>(mine + plan.right_bytes),
                    reinterpret_cast<float*>(mine + plan.right_bytes + plan.left_bytes)};
    const Range all_rows{0, plan.m}, all_columns{0, plan.n};
    const TileRegisters tiles;
    multiply_share(p, plan.by_columns ? all_rows : share_of(plan.m, thread, threads),
                   plan.by_columns ? share_of(plan.n, thread, threads) : all_columns);
  }
}

}  // namespace ag::AG_ISA
