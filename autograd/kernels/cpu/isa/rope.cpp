// Partial rotary embedding by plan:
//   y[out_a] = x[in_a] cos - x[in_b] sin,  y[out_b] = x[in_b] cos + x[in_a] sin;
// the inverse reads the out columns, writes the in columns and turns the other way.
#include "autograd/kernels/cpu/isa/loops.h"
#include "autograd/kernels/cpu/isa/rope_panel.h"

namespace ag::AG_ISA {
namespace {

constexpr int64_t kRows = 16;  // per task

// p, or a copy where one vector is more than the n elements that it has.
template <class T>
AG_INLINE const T* padded(const T* p, int64_t n, T* buffer) {
  if (n >= kWords<T>) return p;
  __builtin_memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return buffer;
}

struct Rotation {
  View y;
  ConstView x, cosine, sine;
  int64_t tokens, first_position;
};

template <class T>
void run_rows(const Panel<T>& panel, const Rotation& r, int64_t begin, int64_t end) {
  using W = compute_t<T>;
  T x_buffer[kWords<T>] = {}, y_buffer[kWords<T>] = {};
  W cosine_buffer[kWords<W>] = {}, sine_buffer[kWords<W>] = {};
  const int64_t columns = r.y.cols, frequencies = r.cosine.cols;
  const bool accumulate = r.y.accumulate;
  int64_t token = begin % r.tokens;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t position = r.first_position + token;
    token = token + 1 == r.tokens ? 0 : token + 1;
    const T* x = padded(r.x.row<T>(n), columns, x_buffer);
    const W* cosine = padded(r.cosine.row<W>(position), frequencies, cosine_buffer);
    const W* sine = padded(r.sine.row<W>(position), frequencies, sine_buffer);
    T* y = r.y.row<T>(n);
    if (columns >= kWords<T>) {
      panel.run_row(y, x, cosine, sine, accumulate);
    } else {
      if (accumulate) padded(y, columns, y_buffer);
      panel.run_row(y_buffer, x, cosine, sine, accumulate);
      __builtin_memcpy(y, y_buffer, static_cast<size_t>(columns) * sizeof(T));
    }
  }
}

}  // namespace

void rope(View y, ConstView x, const RopePlan& plan, ConstView cosine, ConstView sine,
          int64_t tokens, int64_t first_position, bool inverse) {
  const Rotation rotation{y, x, cosine, sine, tokens, first_position};
  with_type(y.dtype, [&]<class T>() {
    Panel<T> panel(plan, inverse, cosine.cols);
    for (int32_t column = 0; column < y.cols;) {
      column = panel.compile(column);
      parallel_rows((y.rows + kRows - 1) / kRows, kRows * y.cols, [&](int64_t task) {
        const int64_t begin = task * kRows;
        run_rows<T>(panel, rotation, begin, begin + kRows < y.rows ? begin + kRows : y.rows);
      });
    }
  });
}

}  // namespace ag::AG_ISA
