// y = silu(g) * u with silu(g) = g s, s = 1 / (1 + exp(-g)):
//   dg = dy u s (1 + g (1 - s)),  du = dy g s.
#include "autograd/kernels/cpu/isa/loops.h"
#include "autograd/kernels/cpu/isa/wide.h"

namespace ag::AG_ISA {
namespace {

// The backward asks for its five operands so many elements ahead.
constexpr int64_t kAhead = 512;

// NaN stays. Where exp(-x) would overflow, whatever came of it is replaced by 0.
template <class W>
AG_INLINE Vec<W> sigmoid(Vec<W> x) {
  constexpr W kLowest = sizeof(W) == sizeof(float) ? -87 : -700;
  const Vec<W> s = reciprocal(W{1} + exp(-x));
  return x < kLowest ? Vec<W>{} : s;
}

template <class W>
AG_INLINE Vec<W> product(Vec<W> gate, Vec<W> up) {
  return gate * sigmoid<W>(gate) * up;
}

template <class W>
struct Gradient {
  Vec<W> gate, up;
};

template <class W>
AG_INLINE Gradient<W> gradient_of(Vec<W> dy, Vec<W> gate, Vec<W> up) {
  const Vec<W> s = sigmoid<W>(gate), silu = gate * s;
  return {dy * up * (s + silu * (W{1} - s)), dy * silu};
}

template <class W, class T>
AG_INLINE void put_two(T* y, Two<W> value, bool accumulate) {
  if (accumulate) {
    const Two<W> old = load_two<W>(y);
    value = {old.a + value.a, old.b + value.b};
  }
  store_two<W>(y, value);
}

template <class W, class T>
AG_INLINE void put_first(T* y, Vec<W> value, int64_t count, bool accumulate) {
  store_first<W>(y, accumulate ? load_first<W>(y, count, W{0}) + value : value, count);
}

template <class W, class T>
AG_INLINE void forward_row(T* y, const T* gate, const T* up, int64_t n, bool accumulate) {
  int64_t j = 0;
  for (; j + 2 * kLanes<W> <= n; j += 2 * kLanes<W>) {
    const Two<W> g = load_two<W>(gate + j), u = load_two<W>(up + j);
    put_two<W>(y + j, {product<W>(g.a, u.a), product<W>(g.b, u.b)}, accumulate);
  }
  for (; j < n; j += kLanes<W>) {
    const int64_t count = n - j < kLanes<W> ? n - j : kLanes<W>;
    put_first<W>(
        y + j, product<W>(load_first<W>(gate + j, count, W{0}), load_first<W>(up + j, count, W{0})),
        count, accumulate);
  }
}

// dgate and dup may be null.
template <class W, class T>
struct GradientRow {
  T *dgate, *dup;
  const T *dy, *gate, *up;
  bool accumulate_gate, accumulate_up;

  AG_INLINE void run(int64_t n) const {
    int64_t j = 0;
    for (; j + 2 * kLanes<W> <= n; j += 2 * kLanes<W>) {
      __builtin_prefetch(gate + j + kAhead);
      __builtin_prefetch(up + j + kAhead);
      __builtin_prefetch(dy + j + kAhead);
      if (dgate != nullptr) __builtin_prefetch(dgate + j + kAhead);
      if (dup != nullptr) __builtin_prefetch(dup + j + kAhead);
      const Two<W> d = load_two<W>(dy + j), g = load_two<W>(gate + j), u = load_two<W>(up + j);
      const Gradient<W> a = gradient_of<W>(d.a, g.a, u.a), b = gradient_of<W>(d.b, g.b, u.b);
      if (dgate != nullptr) put_two<W>(dgate + j, {a.gate, b.gate}, accumulate_gate);
      if (dup != nullptr) put_two<W>(dup + j, {a.up, b.up}, accumulate_up);
    }
    for (; j < n; j += kLanes<W>) {
      const int64_t count = n - j < kLanes<W> ? n - j : kLanes<W>;
      const Gradient<W> some =
          gradient_of<W>(load_first<W>(dy + j, count, W{0}), load_first<W>(gate + j, count, W{0}),
                         load_first<W>(up + j, count, W{0}));
      if (dgate != nullptr) put_first<W>(dgate + j, some.gate, count, accumulate_gate);
      if (dup != nullptr) put_first<W>(dup + j, some.up, count, accumulate_up);
    }
  }
};

}  // namespace

void swiglu_forward(View y, ConstView gate, ConstView up) {
  with_type(y.dtype, [=]<class T>() {
    parallel_tiles(y.rows, y.cols, [=](int64_t row, int64_t begin, int64_t end) {
      forward_row<compute_t<T>>(y.row<T>(row) + begin, gate.row<T>(row) + begin,
                                up.row<T>(row) + begin, end - begin, y.accumulate);
    });
  });
}

void swiglu_backward(View dgate, View dup, ConstView dy, ConstView gate, ConstView up) {
  with_type(dy.dtype, [=]<class T>() {
    parallel_tiles(dy.rows, dy.cols, [=](int64_t row, int64_t begin, int64_t end) {
      const GradientRow<compute_t<T>, T> gradient{
          dgate.data == nullptr ? nullptr : dgate.row<T>(row) + begin,
          dup.data == nullptr ? nullptr : dup.row<T>(row) + begin,
          dy.row<T>(row) + begin,
          gate.row<T>(row) + begin,
          up.row<T>(row) + begin,
          dgate.accumulate,
          dup.accumulate};
      gradient.run(end - begin);
    });
  });
}

}  // namespace ag::AG_ISA
