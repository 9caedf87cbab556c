// y = silu(g) * u with silu(g) = g s, s = 1 / (1 + exp(-g)):
//   dg = dy u s (1 + g (1 - s)),  du = dy g s.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {
namespace {

template <class W>
[[gnu::always_inline]] inline W sigmoid(W x) {
  return 1 / (1 + exponential(-x));
}

}  // namespace

void swiglu_forward(View y, ConstView gate, ConstView up) {
  with_type(y.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_tiles(y.rows, y.cols, [=](int64_t row, int64_t begin, int64_t end) {
      const T* g = gate.row<T>(row);
      const T* u = up.row<T>(row);
      store<W>(y.row<T>(row), begin, end, y.accumulate, [=](int64_t j) {
        const W x = widen<W>(g[j]);
        return x * sigmoid(x) * widen<W>(u[j]);
      });
    });
  });
}

void swiglu_backward(View dgate, View dup, ConstView dy, ConstView gate, ConstView up) {
  with_type(dy.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_tiles(dy.rows, dy.cols, [=](int64_t row, int64_t begin, int64_t end) {
      const T* d = dy.row<T>(row) + begin;
      const T* g = gate.row<T>(row) + begin;
      const T* u = up.row<T>(row) + begin;
      const int64_t width = end - begin;
      W s[kTile];
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) s[j] = sigmoid(widen<W>(g[j]));
      const W* sigma = s;
      if (dup.data != nullptr) {
        store<W>(dup.row<T>(row) + begin, 0, width, dup.accumulate,
                 [=](int64_t j) { return widen<W>(d[j]) * widen<W>(g[j]) * sigma[j]; });
      }
      if (dgate.data != nullptr) {
        store<W>(dgate.row<T>(row) + begin, 0, width, dgate.accumulate, [=](int64_t j) {
          const W slope = sigma[j] * (1 + widen<W>(g[j]) * (1 - sigma[j]));
          return widen<W>(d[j]) * widen<W>(u[j]) * slope;
        });
      }
    });
  });
}

}  // namespace ag::AG_ISA
