// Vectors of wide values W from and to elements of type T in {W, bf16}, at any address.
#pragma once

#include <type_traits>

#include "autograd/kernels/cpu/isa/isa.h"
#include "autograd/kernels/cpu/isa/simd.h"

namespace ag::AG_ISA {

// As many bfloat16 or their bits as a vector has floats.
typedef uint16_t HalfBits __attribute__((vector_size(kVectorBytes / 2), may_alias));
typedef uint16_t FullWords __attribute__((vector_size(kVectorBytes), may_alias));

// The first element holds the lower half of the float.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

AG_INLINE Vec<float> float_of(HalfBits bits) {
  return reinterpret_cast<Vec<float>>(__builtin_convertvector(bits, FloatBits) << 16);
}

// The upper halves hold x rounded to nearest even. Requires: the lower half of a NaN is 0, as it is
// in one that arithmetic on bf16 makes or hands on.
AG_INLINE FloatBits nearest_bits(Vec<float> x) {
  const FloatBits u = reinterpret_cast<FloatBits>(x);
#if defined(__AVX512F__)
  constexpr int kLowestKept = 0x10000;
  const auto bits = reinterpret_cast<__m512i>(u);
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(kLowestKept));
  return reinterpret_cast<FloatBits>(_mm512_mask_add_epi32(
      reinterpret_cast<__m512i>(u + 0x7FFFU), odd, bits, _mm512_set1_epi32(kLowestKept / 2)));
#else
  return u + 0x7FFFU + ((u >> 16) & 1U);
#endif
}

// The same for every x, as bf16(float) does it; a NaN stays one.
AG_INLINE FloatBits rounded_bits(Vec<float> x) {
  const IntVec<float> ordered = x == x;
  return ordered ? nearest_bits(x) : reinterpret_cast<FloatBits>(x) | 0x400000U;
}

AG_INLINE HalfBits rounded(Vec<float> x) {
  return __builtin_convertvector(rounded_bits(x) >> 16, HalfBits);
}

template <class W, class T>
AG_INLINE Vec<W> load_wide(const T* p) {
  if constexpr (std::is_same_v<T, bf16>) {
    HalfBits bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return float_of(bits);
  } else {
    static_assert(std::is_same_v<T, W>);
    Vec<W> x;
    __builtin_memcpy(&x, p, sizeof(x));
    return x;
  }
}

template <class W, class T>
AG_INLINE void store_wide(T* p, Vec<W> x) {
  if constexpr (std::is_same_v<T, bf16>) {
    const HalfBits bits = rounded(x);
    __builtin_memcpy(p, &bits, sizeof(bits));
  } else {
    static_assert(std::is_same_v<T, W>);
    __builtin_memcpy(p, &x, sizeof(x));
  }
}

// The first n < kLanes elements; the other lanes hold `rest`.
template <class W, class T>
AG_INLINE Vec<W> load_first(const T* p, int64_t n, W rest) {
  W lanes[kLanes<W>];
  for (int64_t i = 0; i < kLanes<W>; ++i) lanes[i] = rest;
  for (int64_t i = 0; i < n; ++i) lanes[i] = static_cast<W>(p[i]);
  return load_wide<W>(lanes);
}

template <class W, class T>
AG_INLINE void store_first(T* p, Vec<W> x, int64_t n) {
  T lanes[kLanes<W>];
  store_wide<W>(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// A vector of kLanes elements, or of the first `n` with zeros behind them.
template <class W, bool kFull, class T>
AG_INLINE Vec<W> load_some(const T* p, int64_t n) {
  if constexpr (kFull) {
    return load_wide<W>(p);
  } else {
    return load_first<W>(p, n, W{0});
  }
}

template <class W, bool kFull, class T>
AG_INLINE void store_some(T* p, Vec<W> x, int64_t n) {
  if constexpr (kFull) {
    store_wide<W>(p, x);
  } else {
    store_first<W>(p, x, n);
  }
}

// f.operator()<kFull>(first, count) for [0, n) in vectors of kLanes elements and what is left over.
template <class W, class F>
AG_INLINE void for_vectors(int64_t n, F f) {
  int64_t j = 0;
  for (; j + kLanes<W> <= n; j += kLanes<W>) f.template operator()<true>(j, kLanes<W>);
  if (j < n) f.template operator()<false>(j, n - j);
}

// 2 * kLanes elements as two vectors. Of bf16 these are the elements at even and at odd places,
// which are a shift or a mask away from being floats; of wide types the first half and the second.
template <class W>
struct Two {
  Vec<W> a, b;
};

template <class W, class T>
AG_INLINE Two<W> load_two(const T* p) {
  if constexpr (std::is_same_v<T, bf16>) {
    FloatBits bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return {reinterpret_cast<Vec<float>>(bits << 16),
            reinterpret_cast<Vec<float>>(bits & 0xFFFF0000U)};
  } else {
    return {load_wide<W>(p), load_wide<W>(p + kLanes<W>)};
  }
}

// Requires of bf16: see nearest_bits.
template <class W, class T>
AG_INLINE void store_two(T* p, const Two<W>& x) {
  if constexpr (std::is_same_v<T, bf16>) {
    const FloatBits bits = (nearest_bits(x.a) >> 16) | (nearest_bits(x.b) & 0xFFFF0000U);
    __builtin_memcpy(p, &bits, sizeof(bits));
  } else {
    store_wide<W>(p, x.a);
    store_wide<W>(p + kLanes<W>, x.b);
  }
}

// The words at odd places: the upper halves of a, then those of b.
AG_INLINE FullWords upper_halves(FloatBits a, FloatBits b) {
  FullWords odd{};
  for (int i = 0; i < 2 * kLanes<float>; ++i) odd[i] = static_cast<uint16_t>(2 * i + 1);
  return __builtin_shuffle(reinterpret_cast<FullWords>(a), reinterpret_cast<FullWords>(b), odd);
}

// 2 * kLanes elements: those of a, then those of b. Requires, unless they may be any NaN: see
// nearest_bits.
template <class W, bool kAnyNaN = true, class T>
AG_INLINE void store_neighbours(T* p, Vec<W> a, Vec<W> b) {
  if constexpr (std::is_same_v<T, bf16>) {
    const FullWords words = kAnyNaN ? upper_halves(rounded_bits(a), rounded_bits(b))
                                    : upper_halves(nearest_bits(a), nearest_bits(b));
    __builtin_memcpy(p, &words, sizeof(words));
  } else {
    store_wide<W>(p, a);
    store_wide<W>(p + kLanes<W>, b);
  }
}

template <class W>
AG_INLINE W sum_of(Vec<W> x) {
  W sum = 0;
  for (int64_t i = 0; i < kLanes<W>; ++i) sum += x[i];
  return sum;
}

}  // namespace ag::AG_ISA
