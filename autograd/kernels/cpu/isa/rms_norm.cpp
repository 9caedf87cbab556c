// y = x * rstd * w with rstd = 1 / sqrt(mean(x^2) + eps), and its gradients
//   dx = rstd * (dy * w - x * rstd^2 * mean(dy * w * x)),  dw = sum_n dy * x * rstd.
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {

void rms_norm_forward(View y, View rstd, ConstView x, ConstView w, double eps) {
  with_type(y.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_rows(y.rows, y.cols, [=](int64_t n) {
      const W* input = x.row<W>(n);
      const W* weight = w.row<W>(0);
      const int64_t width = y.cols;
      W squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < width; ++j) squares += input[j] * input[j];
      const W mean = squares / static_cast<W>(width);
      const W scale = 1 / static_cast<W>(__builtin_sqrt(static_cast<double>(mean) + eps));
      store<W>(rstd.row<W>(n), 0, 1, rstd.accumulate, [=](int64_t) { return scale; });
      store<W>(y.row<T>(n), 0, width, y.accumulate,
               [=](int64_t j) { return input[j] * scale * weight[j]; });
    });
  });
}

void rms_norm_backward_x(View dx, ConstView dy, ConstView x, ConstView w, ConstView rstd) {
  with_type(dy.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_rows(dx.rows, dx.cols, [=](int64_t n) {
      const T* gradient = dy.row<T>(n);
      const W* input = x.row<W>(n);
      const W* weight = w.row<W>(0);
      const int64_t width = dx.cols;
      W dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t j = 0; j < width; ++j) dot += widen<W>(gradient[j]) * weight[j] * input[j];
      const W scale = *rstd.row<W>(n);
      const W along = dot / static_cast<W>(width) * scale * scale * scale;
      store<W>(dx.row<W>(n), 0, width, dx.accumulate, [=](int64_t j) {
        return widen<W>(gradient[j]) * weight[j] * scale - input[j] * along;
      });
    });
  });
}

void rms_norm_backward_w(View dw, ConstView dy, ConstView x, ConstView rstd) {
  with_type(dy.dtype, [=]<class T>() {
    using W = compute_t<T>;
    sum_over_rows<W>(dw, dy.rows, [=](int64_t n, int64_t j) {
      return widen<W>(dy.row<T>(n)[j]) * x.row<W>(n)[j] * *rstd.row<W>(n);
    });
  });
}

}  // namespace ag::AG_ISA
