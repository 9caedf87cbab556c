// c (+)= op(a) op(b) in bf16 by oneDNN: a primitive per shape, kept.
#include "autograd/kernels/cpu/gemm_onednn.h"

#include <array>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "autograd/core/pool.h"
#include "autograd/kernels/cpu/gemm.h"

namespace ag {
namespace {

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
    const GemmSizes s = sizes_of(c, a, transpose_a);
    const ProductKey key{
        s.m,      s.n,         s.k,         a.ld,         b.ld,
        c.ld,     transpose_a, transpose_b, c.accumulate, static_cast<int64_t>(c.dtype),
        threads()};
    const auto found = products_.find(key);
    if (found != products_.end()) return found->second;
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.emplace(key, build(s, c, a, transpose_a, b, transpose_b)).first->second;
  }

  Product build(const GemmSizes& s, const View& c, const ConstView& a, bool transpose_a,
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

}  // namespace

void one_dnn_gemm(View c, ConstView a, bool transpose_a, ConstView b, bool transpose_b) {
  try {
    static OneDnn one_dnn;
    one_dnn.multiply(c, a, transpose_a, b, transpose_b);
  } catch (const dnnl::error& error) {
    core::fail(error.status == dnnl_out_of_memory ? core::ExitCode::kOutOfMemory
                                                  : core::ExitCode::kInternal,
               {.field = "gemm", .expected = "oneDNN to multiply", .found = error.what()});
  }
}

std::string one_dnn_version() {
  const dnnl_version_t* version = dnnl::version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace ag
