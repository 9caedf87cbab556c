// Conversions between floating types and the bias of a linear layer.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {

void cast(View y, ConstView x) {
  with_type(y.dtype, [=]<class Y>() {
    with_type(x.dtype, [=]<class X>() {
      using W = common_wide<X, Y>;
      parallel_tiles(y.rows, y.cols, [=](int64_t row, int64_t begin, int64_t end) {
        const X* source = x.row<X>(row);
        store<W>(y.row<Y>(row), begin, end, y.accumulate,
                 [=](int64_t j) { return widen<W>(source[j]); });
      });
    });
  });
}

void add_bias(View y, ConstView bias) {
  with_type(y.dtype, [=]<class Y>() {
    with_type(bias.dtype, [=]<class B>() {
      using W = common_wide<B, Y>;
      parallel_tiles(y.rows, y.cols, [=](int64_t row, int64_t begin, int64_t end) {
        const B* source = bias.row<B>(0);
        store<W>(y.row<Y>(row), begin, end, true, [=](int64_t j) { return widen<W>(source[j]); });
      });
    });
  });
}

}  // namespace ag::AG_ISA
