// Element types. Arithmetic is done in float (double for f64); there is no promotion: an op whose
// inputs disagree is an error, except where its contract names the conversion.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "core/error.h"

namespace ag {

enum class DType : uint8_t { f32, bf16, f64, i32 };
enum class Device : uint8_t { cpu };

// bfloat16: the upper half of a float, rounded to nearest even.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  [[gnu::always_inline]] explicit bf16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16;
    // A NaN whose payload sits in the lower half would round to infinity: keep it quiet instead.
    bits = static_cast<uint16_t>((u & 0x7FFFFFFF) > 0x7F800000 ? (u >> 16) | 0x40 : rounded);
  }
  [[gnu::always_inline]] explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  [[gnu::always_inline]] explicit operator double() const {
    return static_cast<double>(static_cast<float>(*this));
  }
};

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::f64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::bf16:
      return "bfloat16";
    case DType::f64:
      return "float64";
    case DType::i32:
      return "int32";
  }
  return "?";
}

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}

// The type in which arithmetic on T is done.
template <class T>
struct compute_type {
  using type = float;
};
template <>
struct compute_type<double> {
  using type = double;
};
template <class T>
using compute_t = typename compute_type<T>::type;

// That type as a DType: of the residual stream, statistics and masters beside values of `dtype`.
constexpr DType wide_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

// Calls f.template operator()<T>() with the C++ type of a floating dtype.
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i32:
      break;
  }
  throw core::Error(core::ExitCode::kInternal, "error: dispatch_float: int32 is not a float type");
}

}  // namespace ag
