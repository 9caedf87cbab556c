// y = x * rstd * w with rstd = 1 / sqrt(mean(x^2) + eps), and its gradients
//   dx = rstd * (dy * w - x * rstd^2 * mean(dy * w * x)),  dw = sum_n dy * x * rstd.
#include "autograd/kernels/cpu/isa/loops.h"
#include "autograd/kernels/cpu/isa/wide.h"

namespace ag::AG_ISA {
namespace {

template <class W, class T>
struct NormGradient {
  View dx, dw_blocks;
  ConstView dy, x, w, rstd;

  // Adds to dw [0, D) unless it is null.
  AG_INLINE void run_row(int64_t n, W* dw) const {
    const T* gradient = dy.row<T>(n);
    const W* input = x.row<W>(n);
    const W scale = *rstd.row<W>(n);
    if (dw != nullptr) {
      for_vectors<W>(x.cols, [=]<bool kFull>(int64_t j, int64_t count) {
        const Vec<W> term = load_some<W, kFull>(gradient + j, count) *
                            load_some<W, kFull>(input + j, count) * scale;
        store_some<W, kFull>(dw + j, load_some<W, kFull>(dw + j, count) + term, count);
      });
    }
    if (dx.data != nullptr) write_dx(dx.row<W>(n), gradient, input, scale);
  }

  AG_INLINE void write_dx(W* y, const T* gradient, const W* input, W scale) const {
    const W* weight = w.row<W>(0);
    const int64_t width = x.cols;
    const bool accumulate = dx.accumulate;
    Vec<W> dots{};
    for_vectors<W>(width, [&]<bool kFull>(int64_t j, int64_t count) {
      dots += load_some<W, kFull>(gradient + j, count) * load_some<W, kFull>(weight + j, count) *
              load_some<W, kFull>(input + j, count);
    });
    const W along = sum_of<W>(dots) / static_cast<W>(width) * scale * scale * scale;
    for_vectors<W>(width, [=]<bool kFull>(int64_t j, int64_t count) {
      const Vec<W> value = load_some<W, kFull>(gradient + j, count) *
                               load_some<W, kFull>(weight + j, count) * scale -
                           load_some<W, kFull>(input + j, count) * along;
      store_some<W, kFull>(y + j, accumulate ? load_some<W, kFull>(y + j, count) + value : value,
                           count);
    });
  }

  void run_block(int64_t block) const {
    W* dw = dw_blocks.data == nullptr ? nullptr : dw_blocks.row<W>(block);
    if (dw != nullptr) __builtin_memset(dw, 0, static_cast<size_t>(x.cols) * sizeof(W));
    const int64_t end = (block + 1) * kNormBlock;
    for (int64_t n = block * kNormBlock; n < (end < x.rows ? end : x.rows); ++n) run_row(n, dw);
  }
};

// Four chains of additions, which do not wait for each other.
template <class W>
AG_INLINE W sum_of_squares(const W* x, int64_t n) {
  Vec<W> sum[4] = {};
  int64_t j = 0;
  for (; j + 4 * kLanes<W> <= n; j += 4 * kLanes<W>) {
    for (int64_t i = 0; i < 4; ++i) {
      const Vec<W> value = load_wide<W>(x + j + i * kLanes<W>);
      sum[i] += value * value;
    }
  }
  for_vectors<W>(n - j, [&]<bool kFull>(int64_t k, int64_t count) {
    const Vec<W> value = load_some<W, kFull>(x + j + k, count);
    sum[0] += value * value;
  });
  return sum_of<W>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// y [0, n) (+)= x * scale * w. Asks for the elements `ahead` of these, which the processor does not
// while it waits for the scale of the next row.
template <class W, class T>
AG_INLINE void write_scaled(T* y, const W* x, W scale, const W* w, int64_t n, bool accumulate,
                            int64_t ahead) {
  int64_t j = 0;
  for (; !accumulate && j + 2 * kLanes<W> <= n; j += 2 * kLanes<W>) {
    const int64_t k = j + kLanes<W>;
    __builtin_prefetch(x + j + ahead);
    __builtin_prefetch(x + k + ahead);
    __builtin_prefetch(y + j + ahead);
    store_neighbours<W>(y + j, load_wide<W>(x + j) * scale * load_wide<W>(w + j),
                        load_wide<W>(x + k) * scale * load_wide<W>(w + k));
  }
  for_vectors<W>(n - j, [=]<bool kFull>(int64_t i, int64_t count) {
    const Vec<W> value =
        load_some<W, kFull>(x + j + i, count) * scale * load_some<W, kFull>(w + j + i, count);
    store_some<W, kFull>(y + j + i,
                         accumulate ? load_some<W, kFull>(y + j + i, count) + value : value, count);
  });
}

}  // namespace

void rms_norm_forward(View y, View rstd, ConstView x, ConstView w, double eps) {
  with_type(y.dtype, [=]<class T>() {
    using W = compute_t<T>;
    parallel_rows(y.rows, y.cols, [=](int64_t n) {
      const W* input = x.row<W>(n);
      const W mean = sum_of_squares(input, y.cols) / static_cast<W>(y.cols);
      const W scale = 1 / static_cast<W>(__builtin_sqrt(static_cast<double>(mean) + eps));
      store<W>(rstd.row<W>(n), 0, 1, rstd.accumulate, [=](int64_t) { return scale; });
      write_scaled<W>(y.row<T>(n), input, scale, w.row<W>(0), y.cols, y.accumulate, 2 * x.ld);
    });
  });
}

void rms_norm_backward(View dx, View dw_blocks, ConstView dy, ConstView x, ConstView w,
                       ConstView rstd) {
  with_type(dy.dtype, [=]<class T>() {
    const NormGradient<compute_t<T>, T> gradient{dx, dw_blocks, dy, x, w, rstd};
    parallel_rows((x.rows + kNormBlock - 1) / kNormBlock, kNormBlock * x.cols,
                  [=](int64_t block) { gradient.run_block(block); });
  });
}

}  // namespace ag::AG_ISA
