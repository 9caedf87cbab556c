// c (+)= op(a) op(b) in bf16 on AMX tiles (gemm.h says how the work is cut).
#include "autograd/kernels/cpu/amx/gemm.h"

#include <omp.h>

#include "autograd/kernels/cpu/amx/gemm_pack.h"
#include "autograd/kernels/cpu/amx/gemm_tiles.h"
#include "autograd/kernels/cpu/isa/arithmetic.h"

namespace ag::AG_ISA {
namespace {

struct Range {
  int64_t begin, end;

  int64_t size() const { return end - begin; }
};

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
        prefetch_piece(p.b, j + kPiece, l);
        pack_piece<pack_right_columns>(tiles(l, j), p.b, j, l);
      }
    }
    return;
  }
  for (int64_t l = sum.begin; l < sum.end; l += kPiece) {
    for (int64_t j = columns.begin; j < columns.end; j += kBlock) {
      prefetch_piece(p.b, l + kPiece, j);
      pack_piece<pack_right_rows>(tiles(l, j), p.b, l, j);
    }
  }
}

// op(a) [rows, sum]: blocks of 32 rows, in each the tiles along the sum. The source is read along
// its rows here too.
void pack_left(const Product& p, const Range& rows, const Range& sum) {
  const auto tiles = [&](int64_t i, int64_t l) {
    return p.left + (i - rows.begin) * p.plan.depth + (l - sum.begin) * kBlock;
  };
  if (!p.transpose_a) {
    for (int64_t i = rows.begin; i < rows.end; i += kBlock) {
      pack_left_rows(tiles(i, sum.begin), p.a, i, sum.begin, sum.size());
    }
    return;
  }
  for (int64_t l = sum.begin; l < sum.end; l += kPiece) {
    for (int64_t i = rows.begin; i < rows.end; i += kBlock) {
      pack_piece<pack_left_columns>(tiles(i, l), p.a, l, i);
    }
  }
}

// op(a) [32 rows from `row`, sum] as tiles; `packed` is the first row that is packed.
LeftTiles left_tiles(const Product& p, int64_t row, int64_t packed, const Range& sum) {
  if (p.plan.left_packed) {
    const bf16* tiles = p.left + (row - packed) * p.plan.depth;
    return {reinterpret_cast<const std::byte*>(tiles), kTileBytes, 2048, 1024};
  }
  const bf16* first = p.a.data + row * p.a.ld + sum.begin;
  return {reinterpret_cast<const std::byte*>(first), p.a.ld * 2, kTileBytes, p.a.ld * 32};
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

// A piece of op(a): what lies where the program reads next.
struct LeftPiece {
  Range rows, sum;
};

// The part `index` of `parts` of a piece into the second cache.
void prefetch_left(const Product& p, const LeftPiece& next, int64_t index, int64_t parts) {
  const Range& lines = p.transpose_a ? next.sum : next.rows;
  const Range& run = p.transpose_a ? next.rows : next.sum;
  for (int64_t i = lines.begin + index; i < lines.end; i += parts) {
    const bf16* row = p.a.data + i * p.a.ld;
    for (int64_t j = run.begin; j < run.end; j += 32) _mm_prefetch(row + j, _MM_HINT_T1);
  }
}

// The 32 x 32 results from (row, col), which will be written.
void prefetch_results(const Product& p, int64_t row, int64_t col) {
  const int64_t width = size_of(p.c.dtype), rows = smaller(p.plan.m - row, kBlock);
  const auto* c = static_cast<const std::byte*>(p.c.data) + (row * p.c.ld + col) * width;
  for (int64_t i = 0; i < rows; ++i) {
    prefetch_to_write(c + i * p.c.ld * width);
    if (width == 4) prefetch_to_write(c + i * p.c.ld * width + 64);
  }
}

// The rows of a group times a packed block of op(b). `kept` are their sums, if c cannot hold them.
void multiply_group(const Product& p, const LeftPiece& group, const LeftPiece& next,
                    const Range& columns, float* kept) {
  const Range& sum = group.sum;
  const bool keeps = p.c.dtype == DType::bf16 && p.plan.k > p.plan.depth;
  const int64_t steps = (sum.size() + kTileDepth - 1) / kTileDepth;
  const int64_t blocks = (columns.size() + kBlock - 1) / kBlock;
  const int64_t parts = blocks * ((group.rows.size() + kBlock - 1) / kBlock);
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t row = group.rows.begin + part / blocks * kBlock;
    const int64_t block = part % blocks, col = columns.begin + block * kBlock;
    prefetch_left(p, next, part, parts);
    if (block + 1 < blocks) prefetch_results(p, row, col + kBlock);
    const bf16* right = p.right + block * p.plan.depth * kBlock;
    float* sums = kept + (row - group.rows.begin) * p.plan.columns + block * kBlock * kBlock;
    add_block(p,
              {left_tiles(p, row, group.rows.begin, sum), reinterpret_cast<const std::byte*>(right),
               steps, sum.begin == 0, sum.end == p.plan.k},
              row, col, keeps ? sums : p.sums);
  }
}

// `after` is the part of the sum that comes next, for the same rows.
void multiply_strip(const Product& p, const Range& rows, const Range& columns, const Range& sum,
                    const Range& after) {
  for (int64_t i = rows.begin; i < rows.end; i += p.plan.left_rows) {
    const LeftPiece group{piece(rows, i, p.plan.left_rows), sum};
    const LeftPiece next = group.rows.end < rows.end
                               ? LeftPiece{piece(rows, group.rows.end, p.plan.left_rows), sum}
                               : LeftPiece{piece(rows, rows.begin, p.plan.left_rows), after};
    if (p.plan.left_packed) pack_left(p, group.rows, sum);
    multiply_group(p, group, next, columns, p.sums + (i - rows.begin) * p.plan.columns);
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
        multiply_strip(p, strip, block, sum, piece(whole, sum.end, plan.depth));
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
