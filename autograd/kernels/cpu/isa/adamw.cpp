// AdamW (Loshchilov & Hutter): p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//   p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {
namespace {

// So many elements of five arrays stay in the first level of cache until the copy is made.
constexpr int64_t kPiece = 512;

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

// Elements [0, n) of one piece.
template <class W>
[[gnu::always_inline]] inline void update(W* p, W* m, W* v, const W* gradient, int64_t n,
                                          const Coefficients<W>& c) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const W g = gradient[i] * c.gradient_scale;
    m[i] = c.beta1 * m[i] + c.one_minus_beta1 * g;
    v[i] = c.beta2 * v[i] + c.one_minus_beta2 * (g * g);
    p[i] = c.decay * p[i] - c.step_size * m[i] / (root_of(v[i]) * c.root + c.eps);
  }
}

}  // namespace

void adamw(View master, View working, View m, View v, ConstView gradient, const AdamWStep& step) {
  with_type(master.dtype, [=]<class W>() {
    if constexpr (!std::is_same_v<W, bf16>) {
      const Coefficients<W> c = coefficients_of<W>(step);
      with_type(working.data == nullptr ? master.dtype : working.dtype, [=]<class T>() {
        parallel_tiles(1, master.cols, [=](int64_t, int64_t begin, int64_t end) {
          for (int64_t first = begin; first < end; first += kPiece) {
            const int64_t n = end - first < kPiece ? end - first : kPiece;
            W* p = master.row<W>(0) + first;
            update(p, m.row<W>(0) + first, v.row<W>(0) + first, gradient.row<W>(0) + first, n, c);
            if (working.data == nullptr) continue;
            store<W>(working.row<T>(0) + first, 0, n, false, [=](int64_t i) { return p[i]; });
          }
        });
      });
    }
  });
}

}  // namespace ag::AG_ISA
