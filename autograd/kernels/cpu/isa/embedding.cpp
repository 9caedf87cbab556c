// Rows of a table by token, and the sum of gradients by token.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {

void embedding_forward(View y, ConstView table, ConstView tokens) {
  const int32_t* token = tokens.row<int32_t>(0);
  with_type(y.dtype, [=]<class Y>() {
    with_type(table.dtype, [=]<class S>() {
      using W = common_wide<S, Y>;
      parallel_rows(y.rows, y.cols, [=](int64_t n) {
        const S* source = table.row<S>(token[n]);
        store<W>(y.row<Y>(n), 0, y.cols, y.accumulate,
                 [=](int64_t j) { return widen<W>(source[j]); });
      });
    });
  });
}

// A thread owns columns, not tokens: a token that occurs twice is added in the order of n.
void embedding_backward(View dtable, ConstView dy, ConstView tokens) {
  const int32_t* token = tokens.row<int32_t>(0);
  with_type(dy.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_columns(dy.rows, dy.cols, [=](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < dy.rows; ++n) {
        const T* gradient = dy.row<T>(n);
        store<W>(dtable.row<W>(token[n]), begin, end, true,
                 [=](int64_t j) { return widen<W>(gradient[j]); });
      }
    });
  });
}

}  // namespace ag::AG_ISA
