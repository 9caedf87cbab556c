// c (+)= op(a) op(b). All matrices are row-major with a leading dimension.
#include "autograd/kernels/cpu/gemm.h"

#include <cblas.h>

#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "autograd/core/pool.h"

namespace ag {
namespace {

struct Sizes {
  int64_t m, n, k;
};

Sizes sizes_of(const View& c, const ConstView& a, bool transpose_a) {
  return {c.rows, c.cols, transpose_a ? a.rows : a.cols};
}

// Handles the products in which nothing is summed; true if there is nothing left to do.
bool finish_empty(const View& c, const Sizes& sizes) {
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
  const Sizes s = sizes_of(c, a, transpose_a);
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

// ---- bf16 through oneDNN ----

using Dims = dnnl::memory::dims;

// Everything that a primitive is built for.
using ProductKey = std::array<int64_t, 11>;

struct Product {
  dnnl::matmul primitive;
  dnnl::memory a, b, c, scratch;
  std::unordered_map<int, dnnl::memory> arguments;
  size_t scratch_bytes;
};

dnnl::memory::desc describe(int64_t rows, int64_t cols, int64_t ld, bool transposed, DType dtype) {
  const auto type =
      dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  return {Dims{rows, cols}, type, transposed ? Dims{1, ld} : Dims{ld, 1}};
}

class OneDnn {
 public:
  OneDnn() {
    // Requires: first use of oneDNN in the process; later it refuses.
    const auto limit =
        active_isa() == Isa::amx ? dnnl::cpu_isa::all : dnnl::cpu_isa::avx512_core_bf16;
    if (dnnl::set_max_cpu_isa(limit) != dnnl::status::success) {
      core::fail(core::ExitCode::kInternal,
                 {.field = "oneDNN",
                  .expected = "to accept an instruction set limit",
                  .found = "a refusal",
                  .hint = "unset DNNL_MAX_CPU_ISA / ONEDNN_MAX_CPU_ISA"});
    }
    engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
    stream_ = dnnl::stream(engine_);
  }

  void multiply(const View& c, const ConstView& a, bool transpose_a, const ConstView& b,
                bool transpose_b) {
    const std::lock_guard lock(mutex_);  // the memory handles of a product are shared
    Product& product = find(c, a, transpose_a, b, transpose_b);
    const auto scratch = Pool::take(Device::cpu, product.scratch_bytes);
    product.a.set_data_handle(const_cast<void*>(a.data));
    product.b.set_data_handle(const_cast<void*>(b.data));
    product.c.set_data_handle(c.data);
    product.scratch.set_data_handle(scratch->data);
    product.primitive.execute(stream_, product.arguments);
    stream_.wait();
  }

 private:
  // The shapes of a run repeat; a bound keeps a run with ever new shapes from growing.
  static constexpr size_t kMaxProducts = 1024;

  Product& find(const View& c, const ConstView& a, bool transpose_a, const ConstView& b,
                bool transpose_b) {
    const Sizes s = sizes_of(c, a, transpose_a);
    const ProductKey key{
        s.m,      s.n,         s.k,         a.ld,         b.ld,
        c.ld,     transpose_a, transpose_b, c.accumulate, static_cast<int64_t>(c.dtype),
        threads()};
    const auto found = products_.find(key);
    if (found != products_.end()) return found->second;
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.emplace(key, build(s, c, a, transpose_a, b, transpose_b)).first->second;
  }

  Product build(const Sizes& s, const View& c, const ConstView& a, bool transpose_a,
                const ConstView& b, bool transpose_b) const {
    const auto a_desc = describe(s.m, s.k, a.ld, transpose_a, DType::bf16);
    const auto b_desc = describe(s.k, s.n, b.ld, transpose_b, DType::bf16);
    const auto c_desc = describe(s.m, s.n, c.ld, false, c.dtype);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (c.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc desc({a_desc, b_desc, c_desc}, attributes, engine_);
    const auto scratch_desc = desc.scratchpad_desc();
    Product product{dnnl::matmul(desc),
                    dnnl::memory(a_desc, engine_, nullptr),
                    dnnl::memory(b_desc, engine_, nullptr),
                    dnnl::memory(c_desc, engine_, nullptr),
                    dnnl::memory(scratch_desc, engine_, nullptr),
                    {},
                    scratch_desc.get_size()};
    product.arguments = {{DNNL_ARG_SRC, product.a},
                         {DNNL_ARG_WEIGHTS, product.b},
                         {DNNL_ARG_DST, product.c},
                         {DNNL_ARG_SCRATCHPAD, product.scratch}};
    return product;
  }

  std::mutex mutex_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<ProductKey, Product> products_;
};

void dnnl_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  if (finish_empty(c, sizes_of(c, a, transpose_a))) return;
  if (a.dtype != DType::bf16) return blas_gemm(c, a, transpose_a, b, transpose_b);
  try {
    static OneDnn one_dnn;
    one_dnn.multiply(c, a, transpose_a, b, transpose_b);
  } catch (const dnnl::error& error) {
    core::fail(error.status == dnnl_out_of_memory ? core::ExitCode::kOutOfMemory
                                                  : core::ExitCode::kInternal,
               {.field = "gemm", .expected = "oneDNN to multiply", .found = error.what()});
  }
}

}  // namespace

Gemm gemm_of(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return widening_gemm<Isa::baseline>;
    case Isa::avx2:
      return widening_gemm<Isa::avx2>;
    case Isa::avx512:
    case Isa::amx:
      break;
  }
  return dnnl_gemm;
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
  } else {
    const dnnl_version_t* version = dnnl::version();
    text += "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) +
            "." + std::to_string(version->patch) + (isa == Isa::amx ? " on AMX" : " on AVX-512");
  }
  if (parallel == 1) {
    text +=
        "; warning: this OpenBLAS has its own pthreads, which fight the program's threads; "
        "install libopenblas0-openmp";
  }
  return text;
}

}  // namespace ag
