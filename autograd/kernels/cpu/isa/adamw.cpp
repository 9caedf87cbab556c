// AdamW (Loshchilov & Hutter): p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//   p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {
namespace {

template <class W>
struct Coefficients {
  W gradient_scale, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root, eps;
};

template <class W>
Coefficients<W> coefficients_of(const AdamWStep& step) {
  const double t = static_cast<double>(step.step);
  return {.gradient_scale = static_cast<W>(step.gradient_scale),
          .decay = static_cast<W>(1 - step.learning_rate * step.weight_decay),
          .beta1 = static_cast<W>(step.beta1),
          .one_minus_beta1 = static_cast<W>(1 - step.beta1),
          .beta2 = static_cast<W>(step.beta2),
          .one_minus_beta2 = static_cast<W>(1 - step.beta2),
          .step_size = static_cast<W>(step.learning_rate / (1 - __builtin_pow(step.beta1, t))),
          .root = static_cast<W>(1 / __builtin_sqrt(1 - __builtin_pow(step.beta2, t))),
          .eps = static_cast<W>(step.eps)};
}

[[gnu::always_inline]] inline float root_of(float x) { return __builtin_sqrtf(x); }
[[gnu::always_inline]] inline double root_of(double x) { return __builtin_sqrt(x); }

// Elements [0, n) of one piece; working may be null.
template <class W, class T>
[[gnu::always_inline]] inline void update(W* p, T* working, W* m, W* v, const W* gradient,
                                          int64_t n, const Coefficients<W>& c) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const W g = gradient[i] * c.gradient_scale;
    m[i] = c.beta1 * m[i] + c.one_minus_beta1 * g;
    v[i] = c.beta2 * v[i] + c.one_minus_beta2 * (g * g);
    p[i] = c.decay * p[i] - c.step_size * m[i] / (root_of(v[i]) * c.root + c.eps);
  }
  if (working == nullptr) return;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) working[i] = narrow<T>(p[i]);
}

}  // namespace

void adamw(View master, View working, View m, View v, ConstView gradient, const AdamWStep& step) {
  with_type(master.dtype, [=]<class W>() {
    if constexpr (!std::is_same_v<W, bf16>) {
      const Coefficients<W> c = coefficients_of<W>(step);
      with_type(working.data == nullptr ? master.dtype : working.dtype, [=]<class T>() {
        parallel_tiles(1, master.cols, [=](int64_t, int64_t begin, int64_t end) {
          T* copy = working.data == nullptr ? nullptr : working.row<T>(0) + begin;
          update(master.row<W>(0) + begin, copy, m.row<W>(0) + begin, v.row<W>(0) + begin,
                 gradient.row<W>(0) + begin, end - begin, c);
        });
      });
    }
  });
}

}  // namespace ag::AG_ISA
