// Sizes of the blocks of a product on tiles, from its shape alone.
#include <omp.h>

#include "autograd/kernels/cpu/amx/gemm.h"
#include "autograd/kernels/cpu/amx/gemm_tiles.h"
#include "autograd/kernels/cpu/isa/arithmetic.h"

namespace ag::AG_ISA {
namespace {

constexpr int64_t kRightBytes = 1 << 20;  // of a packed block of op(b): half of the second cache
constexpr int64_t kLeftRows = 128;        // as columns of the source: 256 bytes of each row
constexpr int64_t kSerialWork = 1 << 21;  // multiplications that do not pay for waking a thread
constexpr int64_t kMaxDepth = 1536;
constexpr int64_t kTurnedDepth = 512;    // at least, where op(a) must be turned
constexpr int64_t kKeptBytes = 1 << 19;  // of sums that wait for the next block of the sum

// The largest multiple of `unit` not above `limit` that cuts n into pieces of nearly one size.
int64_t even_piece(int64_t n, int64_t limit, int64_t unit) {
  const int64_t pieces = divide_up(n, larger(limit / unit * unit, unit));
  return larger(round_up(divide_up(n, pieces), unit), unit);
}

// Why: columns let each thread pack its own part of op(b) only, rows read op(a) once only.
bool share_columns(int64_t m, int64_t n, int threads, bool transpose_a) {
  if (n < kBlock * threads) return false;
  if (m < kBlock * threads) return true;
  return transpose_a ? n > m : true;
}

bool tiles_lie_in_rows(const ConstView& a) {
  const auto address = reinterpret_cast<uintptr_t>(a.data);
  return address % 64 == 0 && a.ld % 32 == 0 && a.ld % 1024 != 0 && a.cols % 32 == 0 &&
         a.rows % kBlock == 0;
}

}  // namespace

GemmPlan plan_gemm(const View& c, const ConstView& a, bool transpose_a, const ConstView&, bool) {
  GemmPlan p{};
  p.m = c.rows, p.n = c.cols, p.k = transpose_a ? a.rows : a.cols;
  p.threads = p.m * p.n <= kSerialWork / p.k ? 1 : omp_get_max_threads();
  p.by_columns = share_columns(p.m, p.n, p.threads, transpose_a);
  p.left_packed = transpose_a || !tiles_lie_in_rows(a);
  const int64_t own = p.by_columns ? divide_up(divide_up(p.n, kBlock), p.threads) * kBlock : p.n;
  // op(a) is turned once for each block of op(b): better one block of all columns, less deep.
  const int64_t depth = transpose_a ? larger(kTurnedDepth, kRightBytes / 2 / own) : kMaxDepth;
  p.depth = even_piece(p.k, smaller(depth, kMaxDepth), kTileDepth);
  p.columns = even_piece(own, kRightBytes / (2 * p.depth), kBlock);
  p.rows = round_up(p.m, kBlock);
  int64_t kept = kBlock * kBlock;
  if (c.dtype == DType::bf16 && p.k > p.depth) {
    // bf16 cannot hold a sum that is not complete.
    p.rows = smaller(p.rows, round_up(kKeptBytes / 4 / p.columns, kBlock));
    kept = p.rows * p.columns;
  }
  p.right_bytes = p.depth * p.columns * 2;
  p.left_rows = p.left_packed ? kLeftRows : kBlock;
  p.left_bytes = p.left_packed ? p.left_rows * p.depth * 2 : 0;
  p.sum_bytes = kept * 4;
  return p;
}

}  // namespace ag::AG_ISA
