// Parameters: flat storage, trainable first, bf16 working copies of the matrices.
#include "autograd/params.h"

#include "tests/support/gradcheck.h"
#include "tests/support/refusal.h"

namespace ag::test {
namespace {

using test_support::doubles;
using test_support::expect_refusal;
using test_support::kInternal;
using test_support::random_tensor;

const std::vector<ParamStore::Declaration> kDeclarations{
    {"frozen", {3, 5}, false}, {"matrix", {7, 11}, true}, {"norm", {65}, true}};

TEST(ParamStore, TrainableParametersComeFirstAndShareNoCacheLine) {
  ParamStore store(kDeclarations, DType::f32);
  EXPECT_EQ(store.at("matrix").offset, 0);
  EXPECT_EQ(store.at("norm").offset, 128);  // 77 elements, rounded up to 64s
  EXPECT_EQ(store.trainable_numel(), 256);  // and 65
  EXPECT_EQ(store.at("frozen").offset, 256);
  EXPECT_EQ(store.own_master().numel(), 256);
  EXPECT_EQ(store.make_gradient().shape(), (Shape{256}));
}

TEST(ParamStore, WorkingIsTheMasterUnlessBf16) {
  for (const DType type : {DType::f32, DType::f64}) {
    ParamStore store(kDeclarations, type);
    EXPECT_EQ(store.wide_dtype(), type);
    EXPECT_FALSE(store.own_working().defined());
    Param& p = store.at("matrix");
    store.load(p, random_tensor(p.shape, 1, type));
    EXPECT_EQ(doubles(p.working), doubles(p.master));
    EXPECT_EQ(p.working.view().data, p.master.view().data);
  }
  ParamStore store(kDeclarations, DType::bf16);
  EXPECT_EQ(store.at("matrix").working.dtype(), DType::bf16);
  EXPECT_EQ(store.at("matrix").master.dtype(), DType::f32);
  EXPECT_EQ(store.at("norm").working.dtype(), DType::f32);  // norm weights stay wide
}

TEST(ParamStore, LoadAndRefreshRoundTheMaster) {
  ParamStore store(kDeclarations, DType::bf16);
  for (Param& p : store.all()) store.load(p, random_tensor(p.shape, 1, DType::f32));
  const auto expect_rounded = [&] {
    for (const Param& p : store.all()) {
      if (p.shape.rank() < 2) continue;
      std::vector<double> rounded;
      for (const float v : p.master.to_host<float>())
        rounded.push_back(static_cast<double>(bf16(v)));
      EXPECT_EQ(doubles(p.working), rounded) << p.name;
    }
  };
  expect_rounded();
  Tensor all = store.own_master();
  all.copy_from(random_tensor({all.numel()}, 2, DType::f32).view().data);
  store.refresh_working();
  expect_rounded();
}

TEST(ParamStore, GradientsAreSlicesOfTheSelectedBuffer) {
  ParamStore store(kDeclarations, DType::bf16);
  Tensor first = store.make_gradient(), second = store.make_gradient();
  EXPECT_EQ(first.dtype(), DType::f32);
  store.select_gradient(first);
  const Tensor slice = store.at("norm").gradient();
  EXPECT_EQ(slice.view().data, first.slice(128, {65}).view().data);
  store.select_gradient(second);
  EXPECT_EQ(store.at("norm").gradient().view().data, second.slice(128, {65}).view().data);
}

TEST(ParamStore, RefusesWhatItDoesNotHave) {
  ParamStore store(kDeclarations, DType::f32);
  EXPECT_EQ(store.find("nothing"), nullptr);
  expect_refusal(kInternal, "a parameter named nothing", [&] { store.at("nothing"); });
  expect_refusal(kInternal, "a gradient buffer for norm, got none selected",
                 [&] { store.at("norm").gradient(); });
  expect_refusal(kInternal, "a gradient buffer for frozen, got a frozen parameter",
                 [&] { store.at("frozen").gradient(); });
  expect_refusal(kInternal, "values [7, 11], got [11, 7]", [&] {
    store.load(store.at("matrix"), random_tensor({11, 7}, 1));
  });
  expect_refusal(kInternal, "gradient buffer: expected flat [256], got [255]",
                 [&] { store.select_gradient(Tensor::zeros({255}, DType::f32)); });
  expect_refusal(kInternal, "gradient buffer: expected flat of float32, got float64",
                 [&] { store.select_gradient(Tensor::zeros({256}, DType::f64)); });
  expect_refusal(kInternal, "unique names, got a", [] {
    ParamStore({{"a", {1}, true}, {"a", {2}, false}}, DType::f32);
  });
}

}  // namespace
}  // namespace ag::test
