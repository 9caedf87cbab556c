// c (+)= op(a) op(b). All matrices are row-major with a leading dimension.
#include "autograd/kernels/cpu/gemm.h"

#include <cblas.h>

#include <cstring>

#include "autograd/core/pool.h"
#include "autograd/kernels/cpu/gemm_onednn.h"
#include "autograd/kernels/gemm_scratch.h"
#define AG_ISA amx
#include "autograd/kernels/cpu/amx/gemm.h"

namespace ag {
namespace {

// Handles the products in which nothing is summed; true if there is nothing left to do.
bool finish_empty(const View& c, const GemmSizes& sizes) {
  if (sizes.m == 0 || sizes.n == 0) return true;
  if (sizes.k > 0) return false;
  if (c.accumulate) return true;
  const auto bytes = static_cast<size_t>(c.cols * size_of(c.dtype));
  for (int64_t row = 0; row < c.rows; ++row) {
    std::memset(static_cast<char*>(c.data) + row * c.ld * size_of(c.dtype), 0, bytes);
  }
  return true;
}

// ---- OpenBLAS ----

blasint blas_int(int64_t size) {
  const auto narrowed = static_cast<blasint>(size);
  if (narrowed != size) {
    core::fail(core::ExitCode::kInternal,
               {.field = "gemm", .expected = "a size below 2^31", .found = std::to_string(size)});
  }
  return narrowed;
}

CBLAS_TRANSPOSE blas_transpose(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

void blas_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  const GemmSizes s = sizes_of(c, a, transpose_a);
  const auto run = [&]<class T>(auto gemm) {
    gemm(CblasRowMajor, blas_transpose(transpose_a), blas_transpose(transpose_b), blas_int(s.m),
         blas_int(s.n), blas_int(s.k), T{1}, a.row<T>(0), blas_int(a.ld), b.row<T>(0),
         blas_int(b.ld), c.accumulate ? T{1} : T{0}, c.row<T>(0), blas_int(c.ld));
  };
  if (c.dtype == DType::f64) {
    run.operator()<double>(cblas_dgemm);
  } else {
    run.operator()<float>(cblas_sgemm);
  }
}

// ---- bf16 widened to f32 ----

struct Scratch {
  std::shared_ptr<Block> block;
  View view;
};

Scratch wide_scratch(int64_t rows, int64_t cols) {
  auto block = Pool::take(Device::cpu, static_cast<size_t>(rows * cols * size_of(DType::f32)));
  const View view{block->data, rows, cols, cols, DType::f32, false};
  return {std::move(block), view};
}

Scratch widened(const ConstView& x, const Kernels& kernels) {
  Scratch scratch = wide_scratch(x.rows, x.cols);
  kernels.cast(scratch.view, x);
  return scratch;
}

template <Isa kIsa>
void widening_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  if (finish_empty(c, sizes_of(c, a, transpose_a))) return;
  if (a.dtype != DType::bf16) return blas_gemm(c, a, transpose_a, b, transpose_b);
  const Kernels& kernels = cpu_kernels(kIsa);
  const Scratch wide_a = widened(a, kernels), wide_b = widened(b, kernels);
  if (c.dtype == DType::f32) {
    return blas_gemm(c, wide_a.view, transpose_a, wide_b.view, transpose_b);
  }
  const Scratch product = wide_scratch(c.rows, c.cols);
  blas_gemm(product.view, wide_a.view, transpose_a, wide_b.view, transpose_b);
  kernels.cast(c, product.view);
}

// ---- bf16 on our own tiles ----

void tiled_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  const amx::GemmPlan plan = amx::plan_gemm(c, a, transpose_a, b, transpose_b);
  const auto scratch = Pool::take(Device::cpu, static_cast<size_t>(plan.bytes()));
  amx::gemm(plan, c, a, transpose_a, b, transpose_b, scratch->data);
}

template <Gemm kBf16>
void unit_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  if (finish_empty(c, sizes_of(c, a, transpose_a))) return;
  if (a.dtype != DType::bf16) return blas_gemm(c, a, transpose_a, b, transpose_b);
  kBf16(c, a, transpose_a, b, transpose_b);
}

}  // namespace

Gemm gemm_of(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return widening_gemm<Isa::baseline>;
    case Isa::avx2:
      return widening_gemm<Isa::avx2>;
    case Isa::avx512:
      return unit_gemm<one_dnn_gemm>;
    case Isa::amx:
      break;
  }
  return unit_gemm<tiled_gemm>;
}

int64_t gemm_scratch_bytes(int64_t m, int64_t n, int64_t k, bool transpose_a, DType result) {
  if (active_isa() != Isa::amx) return 0;
  // Operands as the pool gives them: aligned, rows one behind the other.
  const View c{nullptr, m, n, n, result, false};
  const ConstView a = transpose_a ? ConstView{nullptr, k, m, m, DType::bf16}
                                  : ConstView{nullptr, m, k, k, DType::bf16};
  const ConstView b{nullptr, k, n, n, DType::bf16};
  return amx::plan_gemm(c, a, transpose_a, b, false).bytes();
}

void set_gemm_threads(int threads) { openblas_set_num_threads(threads); }

std::string describe_gemm(Isa isa) {
  // "OpenBLAS 0.3.21 DYNAMIC_ARCH ...": the second word is the version.
  const std::string config = openblas_get_config();
  const size_t name_end = config.find(' ');
  const size_t version_end = config.find(' ', name_end + 1);
  const int parallel = openblas_get_parallel();
  const std::string threading = parallel == 2 ? "openmp" : (parallel == 1 ? "pthreads" : "serial");
  std::string text = "f32: " + config.substr(0, version_end) + " (" + threading + ", " +
                     openblas_get_corename() + "), bf16: ";
  if (isa < Isa::avx512) {
    text += "widened to f32 (no bf16 units used)";
  } else if (isa == Isa::amx) {
    text += "own kernels on AMX tiles";
  } else {
    text += one_dnn_version() + " on AVX-512";
  }
  if (parallel == 1) {
    text +=
        "; warning: this OpenBLAS has its own pthreads, which fight the program's threads; "
        "install libopenblas0-openmp";
  }
  return text;
}

}  // namespace ag
