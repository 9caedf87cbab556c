// Conversions between floating types and the bias of a linear layer.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {

// Large pieces: the C library then writes past the caches.
void zero(View y) {
  constexpr int64_t kPiece = int64_t{4} << 20;
  auto* data = static_cast<char*>(y.data);
  const int64_t bytes = y.numel() * size_of(y.dtype);
  if (y.ld == y.cols || y.rows == 1) {
    parallel_rows((bytes + kPiece - 1) / kPiece, kPiece, [=](int64_t piece) {
      const int64_t begin = piece * kPiece, left = bytes - begin;
      __builtin_memset(data + begin, 0, static_cast<size_t>(left < kPiece ? left : kPiece));
    });
    return;
  }
  const int64_t width = y.cols * size_of(y.dtype), distance = y.ld * size_of(y.dtype);
  parallel_rows(y.rows, y.cols, [=](int64_t row) {
    __builtin_memset(data + row * distance, 0, static_cast<size_t>(width));
  });
}

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
