// Conversions between floating types and the bias of a linear layer.
#include <emmintrin.h>

#include "autograd/kernels/cpu/isa/loops.h"

namespace ag::AG_ISA {

namespace {

// Larger memory than the caches hold is written past them: each line would be read first.
constexpr int64_t kPastCaches = int64_t{32} << 20;

// Requires: bytes is a multiple of 64, data of 16.
[[gnu::always_inline]] inline void zero_past_caches(char* data, int64_t bytes) {
  const __m128i zero = _mm_setzero_si128();
  for (int64_t i = 0; i < bytes; i += 64) {
    for (int64_t j = 0; j < 64; j += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(data + i + j), zero);
  }
  _mm_sfence();
}

// Whole pieces by all threads, then what is left of the last.
void zero_flat(char* data, int64_t bytes) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const bool past_caches = bytes >= kPastCaches && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  parallel_rows((bytes + kPiece - 1) / kPiece, kPiece, [=](int64_t piece) {
    char* begin = data + piece * kPiece;
    const int64_t left = bytes - piece * kPiece, count = left < kPiece ? left : kPiece;
    const int64_t streamed = past_caches ? count / 64 * 64 : 0;
    zero_past_caches(begin, streamed);
    __builtin_memset(begin + streamed, 0, static_cast<size_t>(count - streamed));
  });
}

}  // namespace

void zero(View y) {
  if (y.ld == y.cols || y.rows == 1) {
    zero_flat(static_cast<char*>(y.data), y.numel() * size_of(y.dtype));
    return;
  }
  const int64_t width = y.cols * size_of(y.dtype), distance = y.ld * size_of(y.dtype);
  auto* data = static_cast<char*>(y.data);
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
