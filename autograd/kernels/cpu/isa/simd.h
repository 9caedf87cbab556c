// Vectors of the instruction set a file is compiled for, by GCC's vector extensions: operators work
// lane by lane, a * b + c becomes a fused multiply-add where there is one (-ffp-contract=fast).
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define AG_INLINE [[gnu::always_inline]] inline

namespace ag::AG_ISA {

#if defined(__AVX512F__)
inline constexpr size_t kVectorBytes = 64;
inline constexpr int kVectorRegisters = 32;
#elif defined(__AVX2__)
inline constexpr size_t kVectorBytes = 32;
inline constexpr int kVectorRegisters = 16;
#else
inline constexpr size_t kVectorBytes = 16;
inline constexpr int kVectorRegisters = 16;
#endif

// The integer with as many bits as a lane of C.
template <class C>
struct LaneInteger;
template <>
struct LaneInteger<float> {
  using type = int32_t;
};
template <>
struct LaneInteger<double> {
  using type = int64_t;
};

template <class C>
struct Vector {
  typedef C type __attribute__((vector_size(kVectorBytes), may_alias));
  typedef typename LaneInteger<C>::type integer
      __attribute__((vector_size(kVectorBytes), may_alias));
};
// The bits of a Vec<float>, with arithmetic that may wrap.
typedef uint32_t FloatBits __attribute__((vector_size(kVectorBytes), may_alias));
template <class C>
using Vec = typename Vector<C>::type;  // C in {float, double}
template <class C>
using IntVec = typename Vector<C>::integer;  // what a comparison yields: all bits or none
template <class C>
inline constexpr int64_t kLanes = static_cast<int64_t>(kVectorBytes / sizeof(C));

// Requires: p is a multiple of kVectorBytes.
template <class C>
AG_INLINE Vec<C> load(const C* p) {
  return *reinterpret_cast<const Vec<C>*>(p);
}
template <class C>
AG_INLINE void store(C* p, Vec<C> v) {
  *reinterpret_cast<Vec<C>*>(p) = v;
}

template <class C>
AG_INLINE Vec<C> broadcast(C x) {
  return x - Vec<C>{};
}

// {0, 1, 2, ...}
template <class C>
AG_INLINE IntVec<C> lane_index() {
  IntVec<C> index{};
  for (int i = 0; i < kLanes<C>; ++i) index[i] = i;
  return index;
}

// A NaN in b stays, one in a is dropped.
template <class V>
AG_INLINE V max(V a, V b) {
#if defined(__AVX512F__)
  // Why: the compiler makes two instructions of what follows.
  if constexpr (sizeof(a[0]) == sizeof(float)) return _mm512_maskz_max_ps(0xFFFF, a, b);
#endif
  return a > b ? a : b;
}

// exp(x) for x <= 88, relative error below 1.5e-7; below -87.3 (the subnormals) it is 0, NaN stays.
// x = n ln 2 + f with |f| <= ln 2 / 2, exp(f) = 1 + f + f^2 p(f), p interpolated at Chebyshev
// nodes. Far below -87.3 n and f make no sense, and what they lead to is thrown away.
AG_INLINE Vec<float> exp(Vec<float> x) {
  constexpr float kLowest = -87.3F;
  constexpr float kRound = 12582912.0F;     // 1.5 * 2^23: adding it leaves n in the lowest bits
  constexpr float kLn2High = 0.693359375F;  // 9 bits, so n * kLn2High is exact
  constexpr float kLn2Low = -2.12194442e-4F;
  const Vec<float> shifted = x * 1.44269502F + kRound;
  const Vec<float> n = shifted - kRound;
  const Vec<float> f = (x - n * kLn2High) - n * kLn2Low;
  Vec<float> p = f * 0.00139262504F + 0.00836323295F;
  p = p * f + 0.0416665524F;
  p = p * f + 0.166665763F;
  p = p * f + 0.5F;
  p = p * f + 1.0F;
  p = p * f + 1.0F;
  const FloatBits power = (reinterpret_cast<FloatBits>(shifted) << 23) + 0x3F800000U;
  return x < kLowest ? Vec<float>{} : p * reinterpret_cast<Vec<float>>(power);
}

AG_INLINE Vec<double> exp(Vec<double> x) {
  Vec<double> y{};
  for (int i = 0; i < kLanes<double>; ++i) y[i] = __builtin_exp(x[i]);
  return y;
}

// 1 / x for x in [1, 1e38], to two units; NaN stays. Why: a division of 16 lanes takes as long as
// that many multiplications.
AG_INLINE Vec<float> reciprocal(Vec<float> x) {
#if defined(__AVX512F__)
  const Vec<float> guess =
      _mm512_maskz_rcp14_ps(0xFFFF, x);  // 14 bits, which one step of Newton doubles
  return guess * (2.0F - x * guess);
#else
  return 1.0F / x;
#endif
}
AG_INLINE Vec<double> reciprocal(Vec<double> x) { return 1.0 / x; }

// Transposes kLanes x kLanes values held in registers: swaps the off-diagonal halves, then
// quarters.
template <class C>
AG_INLINE void transpose_in_registers(Vec<C> (&row)[kLanes<C>]) {
  const IntVec<C> lane = lane_index<C>();
#pragma GCC unroll 4
  for (int64_t s = kLanes<C> / 2; s > 0; s /= 2) {
    using Index = typename LaneInteger<C>::type;
    const auto step = static_cast<Index>(s);
    // A lane number of kLanes or more picks from the second operand.
    const IntVec<C> own = (lane & step) == 0 ? lane : lane + static_cast<Index>(kLanes<C> - s);
    const IntVec<C> other = (lane & step) == 0 ? lane + step : lane + static_cast<Index>(kLanes<C>);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes<C>; ++i) {
      if ((i & s) != 0) continue;
      const Vec<C> a = row[i], b = row[i + s];
      row[i] = __builtin_shuffle(a, b, own);
      row[i + s] = __builtin_shuffle(a, b, other);
    }
  }
}

}  // namespace ag::AG_ISA
