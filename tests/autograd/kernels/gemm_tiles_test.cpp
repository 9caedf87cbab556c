// bf16 products on our own tiles: against double loops and against oneDNN, for every way in which
// the work can be cut, with any number of threads, and beside other users of the tile registers.
#include <thread>

#include "autograd/core/tensor.h"
#include "autograd/kernels/cpu/gemm_onednn.h"
#include "tests/support/reference_pointwise.h"

namespace ag::test {
namespace {

using Gemm = decltype(Kernels::gemm);

Gemm tiles() { return cpu_kernels(Isa::amx).gemm; }

struct Shape3 {
  int64_t m, n, k;
};

// One block and a part, several parts, several blocks of the sum; rows whose stride is a multiple
// of 2 KiB; tails of each size.
constexpr Shape3 kShapes[] = {{32, 32, 32},   {64, 96, 576},  {33, 47, 31},     {96, 160, 1536},
                              {80, 70, 1030}, {64, 64, 3200}, {130, 300, 1600}, {1, 40, 2000},
                              {40, 1, 64},    {64, 1024, 64}, {1024, 32, 96},   {17, 16, 4096}};

// [rows, cols] in memory of the pool, as in a program: aligned, so that tiles are loaded from where
// the rows lie. Values in (-1, 1), or integers below 4.
template <class T>
Tensor random_tensor(int64_t rows, int64_t cols, unsigned seed, bool integers) {
  std::vector<T> values(static_cast<size_t>(rows * cols));
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (T& value : values) {
    const float x = uniform(engine);
    value = static_cast<T>(integers ? std::trunc(4 * x) : x);
  }
  return Tensor::from_host<T>({rows, cols}, values);
}

struct Case3 {
  Case3(const Shape3& s, DType output, int flags, bool integers = false)
      : shape(s),
        transpose_a((flags & 1) != 0),
        transpose_b((flags & 2) != 0),
        accumulate((flags & 4) != 0),
        a(random_tensor<bf16>(transpose_a ? s.k : s.m, transpose_a ? s.m : s.k, 1, integers)),
        b(random_tensor<bf16>(transpose_b ? s.n : s.k, transpose_b ? s.k : s.n, 2, integers)),
        before(output == DType::bf16 ? random_tensor<bf16>(s.m, s.n, 3, integers)
                                     : random_tensor<float>(s.m, s.n, 3, integers)) {}

  // What c is afterwards.
  std::vector<std::byte> multiplied(Gemm gemm) const {
    Tensor c = Tensor::empty(before.shape(), before.dtype());
    const auto bytes = static_cast<size_t>(c.bytes());
    std::memcpy(c.view().data, before.view().data, bytes);
    gemm(c.view(accumulate), a, transpose_a, b, transpose_b);
    const auto* first = static_cast<const std::byte*>(c.view().data);
    return {first, first + bytes};
  }

  std::string text() const {
    return std::to_string(shape.m) + " x " + std::to_string(shape.k) + " x " +
           std::to_string(shape.n) + " to " + std::string(name_of(before.dtype())) +
           " transposes " + std::to_string(transpose_a) + std::to_string(transpose_b) +
           " accumulate " + std::to_string(accumulate);
  }

  Shape3 shape;
  bool transpose_a, transpose_b, accumulate;
  Tensor a, b, before;
};

template <class F>
void for_each_case(bool integers, F body) {
  for (const Shape3& s : kShapes) {
    for (const DType output : {DType::f32, DType::bf16}) {
      for (int flags = 0; flags < 8; ++flags) {
        const Case3 c(s, output, flags, integers);
        SCOPED_TRACE(c.text());
        body(c);
      }
    }
  }
}

double decoded(const std::vector<std::byte>& bytes, DType dtype, int64_t i) {
  if (dtype == DType::f32) {
    float x;
    std::memcpy(&x, bytes.data() + i * 4, sizeof x);
    return static_cast<double>(x);
  }
  bf16 x;
  std::memcpy(&x, bytes.data() + i * 2, sizeof x);
  return static_cast<double>(x);
}

class GemmTiles : public ::testing::Test {
 protected:
  void SetUp() override {
    if (active_isa() < Isa::amx) GTEST_SKIP() << "this machine or level has no AMX";
  }
  void TearDown() override { set_threads(before_); }

 private:
  int before_ = threads();
};

// Both round sums of k terms below one, each in its own order, and the result.
TEST_F(GemmTiles, AgreesWithOneDnn) {
  for_each_case(false, [](const Case3& c) {
    const std::vector<std::byte> own = c.multiplied(tiles());
    const std::vector<std::byte> library = c.multiplied(one_dnn_gemm);
    const DType dtype = c.before.dtype();
    const auto k = static_cast<double>(c.shape.k);
    for (int64_t i = 0; i < c.before.numel(); ++i) {
      const double x = decoded(own, dtype, i), y = decoded(library, dtype, i);
      const double sum = 2 * sum_error(c.shape.k + 1) * rounding_unit(DType::f32) * (0.5 * k + 1);
      const double last = 2.02 * rounding_unit(dtype) * (std::abs(y) + sum);
      ASSERT_LE(std::abs(x - y), sum + last) << "element " << i;
    }
  });
}

// Sums of small integers are exact in f32: a mistake of any kind shows as a bit.
TEST_F(GemmTiles, IntegersAreExact) {
  for_each_case(true, [](const Case3& c) {
    EXPECT_TRUE(c.multiplied(tiles()) == c.multiplied(one_dnn_gemm));
  });
}

TEST_F(GemmTiles, SameBitsForAnyNumberOfThreads) {
  for_each_case(false, [](const Case3& c) {
    set_threads(1);
    const std::vector<std::byte> alone = c.multiplied(tiles());
    for (const int count : {2, 3, 7}) {
      set_threads(count);
      EXPECT_TRUE(c.multiplied(tiles()) == alone) << count << " threads";
    }
  });
}

// Causal attention of two heads over 48 tokens, as bytes.
std::vector<std::byte> attended(const Kernels& kernels) {
  const AttentionShape shape{.batch = 1,
                             .queries = 48,
                             .keys = 48,
                             .heads = 2,
                             .kv_heads = 1,
                             .head_dim = 32,
                             .value_dim = 32,
                             .scale = 0.2,
                             .rope_begin = {0},
                             .rope_width = {32},
                             .nope_begin = {0}};
  const Tensor q = random_tensor<bf16>(48, 64, 1, false);
  const Tensor k = random_tensor<bf16>(48, 32, 2, false), v = random_tensor<bf16>(48, 32, 3, false);
  Tensor out = Tensor::empty({48, 64}, DType::bf16), lse = Tensor::empty({2, 48}, DType::f32);
  kernels.attention_forward(out.view(), lse.reshaped({96, 1}).view(), q, k, {}, v, shape);
  const auto* first = static_cast<const std::byte*>(out.view().data);
  return {first, first + out.bytes()};
}

// A tile configuration belongs to its thread until released; oneDNN and each of our kernels set
// their own, on the same threads.
TEST_F(GemmTiles, TakesTurnsWithOtherUsersOfTheTiles) {
  const Case3 small({80, 70, 1030}, DType::bf16, 2, true);
  const Case3 large({130, 300, 1600}, DType::f32, 5, true);
  const Kernels& kernels = cpu_kernels(Isa::amx);
  const std::vector<std::byte> first = small.multiplied(one_dnn_gemm);
  const std::vector<std::byte> second = large.multiplied(one_dnn_gemm);
  const std::vector<std::byte> attention = attended(kernels);
  const auto alternate = [&](Gemm one, Gemm other) {
    for (int round = 0; round < 10; ++round) {
      EXPECT_TRUE(small.multiplied(one) == first);
      EXPECT_TRUE(large.multiplied(other) == second);
      EXPECT_TRUE(attended(kernels) == attention);
      EXPECT_TRUE(large.multiplied(one) == second);
      EXPECT_TRUE(attended(kernels) == attention);
      EXPECT_TRUE(small.multiplied(other) == first);
    }
  };
  std::thread caller([&] { alternate(tiles(), one_dnn_gemm); });
  std::thread another([&] { alternate(one_dnn_gemm, tiles()); });
  alternate(tiles(), tiles());
  caller.join();
  another.join();
}

}  // namespace
}  // namespace ag::test
