// Matrix products of bf16 on AMX tiles: how the work of one product is cut.
//
//   for each block of columns of c      op(b) of it packed, to stay in the second cache
//     for each block of the sum
//       for each 32 rows of c           op(a) of them as it lies, or packed
//         for each 32 columns           2 x 2 tiles
//
// Threads share the rows or the columns of c, never the sum: each element is added up in the order
// of the sum by one thread, so the result is the same for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "autograd/core/view.h"

namespace ag::AG_ISA {

struct GemmPlan {
  int64_t m, n, k;
  bool by_columns;                             // what the threads share
  int64_t columns;                             // of a packed block of op(b)
  int64_t depth;                               // of it, along the sum
  int64_t left_rows;                           // of op(a), packed at a time
  int64_t rows;                                // of c, whose sums are kept between parts
  bool left_packed;                            // op(a) must be packed
  int64_t right_bytes, left_bytes, sum_bytes;  // of a thread
  int threads;

  int64_t thread_bytes() const { return right_bytes + left_bytes + sum_bytes; }
  int64_t bytes() const { return threads * thread_bytes(); }
};

GemmPlan plan_gemm(const View& c, const ConstView& a, bool transpose_a, const ConstView& b,
                   bool transpose_b);

// The contract of Kernels::gemm for a and b bf16 with k > 0. `scratch` has plan.bytes() bytes,
// 64-byte aligned.
void gemm(const GemmPlan& plan, View c, ConstView a, bool transpose_a, ConstView b,
          bool transpose_b, std::byte* scratch);

}  // namespace ag::AG_ISA
