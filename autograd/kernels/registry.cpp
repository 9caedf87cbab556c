// Which kernels this process uses: the instruction sets of the machine, and the tables per level.
#include <cpuid.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "autograd/kernels/cpu/gemm.h"
#include "autograd/kernels/kernels.h"
#include "autograd/kernels/traced.h"
#include "core/env.h"
#include "core/trace.h"

// The folder cpu/isa is compiled once into each of these namespaces.
namespace ag::baseline {
Kernels table();
}
namespace ag::avx2 {
Kernels table();
}
namespace ag::avx512 {
Kernels table();
}
namespace ag::amx {
Kernels with_tiles(Kernels table);
}

namespace ag {
namespace {

constexpr std::array kLevels{Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx};

// True when the kernel saves the tile registers of this process (XCR0 bits 17 and 18), after having
// been asked for them: Linux gives them to no process unasked.
bool tiles_permitted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  constexpr unsigned kTileState = 3U << 17;
  unsigned low = 0, high = 0;
  // Requires: OSXSAVE, which every machine with AVX-512 in use has.
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  constexpr unsigned kBf16 = 1U << 22, kTile = 1U << 24;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (edx & kBf16) != 0 && (edx & kTile) != 0 && __builtin_cpu_supports("avx512bf16") &&
         tiles_permitted();
}

// The sets that cmake/kernels.cmake compiles for: x86-64-v2, -v3 and -v4. The compiler's test
// includes that the system saves the registers.
Isa highest_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("ssse3") ||
      !__builtin_cpu_supports("popcnt")) {
    core::fail(
        core::ExitCode::kBadConfig,
        {.field = "processor", .expected = "x86-64-v2 (SSE4.2, POPCNT)", .found = "an older one"});
  }
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2")) {
    return Isa::baseline;
  }
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512cd")) {
    return Isa::avx2;
  }
  return has_amx() ? Isa::amx : Isa::avx512;
}

Isa choose_isa() {
  const Isa highest = highest_isa();
  const std::string& wanted = core::env().isa;
  if (wanted.empty()) return highest;
  for (const Isa isa : kLevels) {
    if (name_of(isa) == wanted && isa <= highest) return isa;
  }
  std::string available;
  for (const Isa isa : kLevels) {
    if (isa <= highest) available += (available.empty() ? "" : ", ") + std::string(name_of(isa));
  }
  core::fail(core::ExitCode::kBadConfig, {.field = "MHA2MLA_ISA",
                                          .expected = "one of " + available,
                                          .found = "'" + wanted + "'",
                                          .hint = "unset it to use the highest of these"});
}

Kernels with_gemm(Kernels table, Isa isa) {
  table.gemm = gemm_of(isa);
  return table;
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
  }
  return "?";
}

Isa active_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

const Kernels& cpu_kernels(Isa isa) {
  static const std::array<Kernels, kLevels.size()> tables{
      with_gemm(baseline::table(), Isa::baseline), with_gemm(avx2::table(), Isa::avx2),
      with_gemm(avx512::table(), Isa::avx512),
      amx::with_tiles(with_gemm(avx512::table(), Isa::amx))};
  return tables[static_cast<size_t>(isa)];
}

const Kernels& kernels(Device) {
  return core::trace::on() ? traced_kernels() : cpu_kernels(active_isa());
}

std::string describe_backend() {
  return "isa " + std::string(name_of(active_isa())) + ", " + describe_gemm(active_isa()) + ", " +
         std::to_string(threads()) + (threads() == 1 ? " thread" : " threads");
}

void set_threads(int threads) {
  // Under OMP_DYNAMIC a busy machine gives smaller teams than asked for, and OpenBLAS waits for the
  // missing threads for ever.
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
  set_gemm_threads(threads);
}

int threads() { return omp_get_max_threads(); }

}  // namespace ag
