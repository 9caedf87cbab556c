// AMX tile registers: eight, each of 16 rows of 64 bytes. A product of tiles is
//   c [16, 16] f32 += a [16, 32] bf16 * b,  b holds [32, 16] as 16 rows of 16 pairs:
//   row p, lane n = (b[2p][n], b[2p + 1][n]).
// Products round to nearest even and treat subnormal bf16 values and sums as zero, whatever MXCSR
// says.
//
// Why not the compiler's intrinsics: those of GCC 12 tell the optimiser neither that a load reads
// memory nor that the configuration is 64 bytes long, so stores to either may be dropped or moved
// behind them.
#pragma once

#include <cstdint>

#include "autograd/kernels/cpu/isa/simd.h"

namespace ag::AG_ISA {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileBytes = 64;  // of a row
inline constexpr int64_t kTilePairs = 16;  // f32, or pairs of bf16, in a row
inline constexpr int64_t kTileDepth = 32;  // bf16 in a row: what one product sums over

// The calling thread owns its tile registers from construction to destruction. One per thread and
// parallel region: libraries that are called in between configure the tiles for themselves.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    static_assert(sizeof configuration == 64);
    asm volatile("ldtilecfg %0" : : "m"(configuration) : "memory");
  }
  ~TileRegisters() { asm volatile("tilerelease" : : : "memory"); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

template <int kTile>
AG_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

// 16 rows of 64 bytes, `stride_bytes` from one to the next.
template <int kTile>
AG_INLINE void tile_load(const void* first_row, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
               :
               : "r"(first_row), "r"(stride_bytes), "i"(kTile)
               : "memory");
}

template <int kTile>
AG_INLINE void tile_store(void* first_row, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
               :
               : "r"(first_row), "r"(stride_bytes), "i"(kTile)
               : "memory");
}

// c += a b in bf16 pairs.
template <int kC, int kA, int kB>
AG_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

}  // namespace ag::AG_ISA
