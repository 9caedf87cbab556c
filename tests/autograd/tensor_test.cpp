// Tensors: shared blocks, slices, shapes, and sizes that no machine has.
#include "autograd/core/tensor.h"

#include <bit>
#include <cstdint>

#include "tests/support/refusal.h"

namespace ag::test {
namespace {

using test_support::expect_refusal;
using test_support::kInternal;

Tensor counting(const Shape& shape) {
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i) values.push_back(static_cast<float>(i));
  return Tensor::from_host<float>(shape, values);
}

TEST(Tensor, SlicesAndReshapesShareTheBlock) {
  const Tensor t = counting({4, 3});
  EXPECT_TRUE(t.unique());
  Tensor row = t.slice(3, {1, 3});
  EXPECT_FALSE(t.unique());
  EXPECT_EQ(row.to_host<float>(), (std::vector<float>{3, 4, 5}));
  EXPECT_EQ(row.slice(1, {2}).to_host<float>(), (std::vector<float>{4, 5}));
  row.fill_zero();
  EXPECT_EQ(t.to_host<float>(), (std::vector<float>{0, 1, 2, 0, 0, 0, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(t.reshaped({2, 6}).rows(), 2);
  EXPECT_EQ(t.reshaped({2, 2, 3}).rows(), 4);
}

TEST(Tensor, ViewsAreMatrices) {
  Tensor t = counting({2, 2, 3});
  const View v = t.view(/*accumulate=*/true);
  EXPECT_TRUE(v.accumulate);
  EXPECT_EQ(v.rows, 4);
  EXPECT_EQ(v.cols, 3);
  EXPECT_EQ(v.row<float>(2)[1], 7);
  EXPECT_EQ(Tensor::zeros({5}, DType::f64).rows(), 1);
  EXPECT_EQ(Tensor::zeros({}, DType::f64).numel(), 1);
  EXPECT_EQ(Tensor::zeros({0, 3}, DType::bf16).bytes(), 0);
}

TEST(Tensor, RefusesWhatDoesNotFit) {
  const Tensor t = counting({4, 3});
  expect_refusal(kInternal, "slice: expected a part of [4, 3], got [2, 3] at 7", [&] {
    t.slice(7, {2, 3});
  });
  expect_refusal(kInternal, "slice", [&] { t.slice(-1, {1}); });
  expect_refusal(kInternal, "slice", [&] { t.slice(INT64_MAX, {1}); });
  expect_refusal(kInternal, "reshape: expected [4, 3], got [5, 3]", [&] { t.reshaped({5, 3}); });
  expect_refusal(kInternal, "tensor: expected float64, got float32", [&] { t.to_host<double>(); });
  expect_refusal(kInternal, "tensor: expected values for [4, 3], got 1", [] {
    const std::vector<float> one(1);
    Tensor::from_host<float>({4, 3}, one);
  });
  expect_refusal(kInternal, "shape: rank above 4", [] { Shape({1, 1, 1, 1, 1}); });
}

TEST(View, RowRangeIsThoseRowsOfAPaddedMatrix) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    Tensor t = Tensor::zeros({6, 5}, type);
    View whole = t.view(/*accumulate=*/true);
    whole.cols = 3;
    const View part = whole.row_range(2, 3);
    EXPECT_EQ(part.data, t.slice(2 * 5, {3, 5}).view().data);
    EXPECT_EQ((std::vector<int64_t>{part.rows, part.cols, part.ld}),
              (std::vector<int64_t>{3, 3, 5}));
    EXPECT_EQ(part.dtype, type);
    EXPECT_TRUE(part.accumulate);
  }
}

TEST(Tensor, RefusesSizesThatOverflow) {
  constexpr int64_t kBig = int64_t{1} << 33;
  // 2^66 elements would wrap to 4.
  expect_refusal(kInternal,
                 "tensor: expected a size below 2^63 bytes, got [8589934592, 8589934592]", [] {
                   Tensor::empty({kBig, kBig}, DType::f32);
                 });
  expect_refusal(kInternal, "tensor: expected a size below 2^63 bytes", [] {
    Tensor::empty({kBig, int64_t{1} << 29}, DType::f64);
  });
  expect_refusal(kInternal, "tensor: expected a size below 2^63 bytes, got [2, -1]", [] {
    Tensor::empty({2, -1}, DType::f32);
  });
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(bf16(1.0F).bits, 0x3F80);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3F808000U)).bits, 0x3F80);  // a tie, to even
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3F818000U)).bits, 0x3F82);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3F808001U)).bits, 0x3F81);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x7F7FFFFFU)).bits, 0x7F80);  // the largest float: infinity
  EXPECT_EQ(bf16(std::bit_cast<float>(0x7F800001U)).bits, 0x7FC0);  // NaN with a low payload
  EXPECT_EQ(bf16(-0.0F).bits, 0x8000);
}

}  // namespace
}  // namespace ag::test
