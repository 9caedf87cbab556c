// linear_cross_entropy: chunk borders, losses of the rows, extreme logits.
#include <cmath>

#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_grad_directional;
using test_support::check_precision;
using test_support::doubles;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::random_tensor;

// n targets below `vocabulary`, the first and the last of it among them.
Tensor targets_of(int64_t n, int64_t vocabulary) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>((i * i + vocabulary - 1) % vocabulary));
  return Tensor::from_host<int32_t>({n}, ids);
}

test_support::Op loss_of(const Tensor& targets) {
  return [targets](OpInputs& in) {
    LossOptions options;
    if (in.cotangent.defined()) options.gradient_scale = doubles(in.cotangent)[0];
    return linear_cross_entropy(in.x[0], *in.p[0], targets, options);
  };
}

TEST(LinearCrossEntropyOp, GradientMatchesFiniteDifferences) {
  for (const int64_t n : {1, 3, 17}) {
    for (const int64_t d : {1, 2, 17}) {
      for (const int64_t v : {1, 2, 65}) {
        if (n * d * v > 2000) continue;
        EXPECT_TRUE(check_grad(loss_of(targets_of(n, v)), {.x = {{n, d}}, .p = {{v, d}}}))
            << n << ' ' << d << ' ' << v;
      }
    }
  }
}

TEST(LinearCrossEntropyOp, DirectionalGradientAcrossChunks) {
  for (const int64_t n : {255, 256, 257, 513}) {
    EXPECT_TRUE(
        check_grad_directional(loss_of(targets_of(n, 33)), {.x = {{n, 17}}, .p = {{33, 17}}}))
        << n;
  }
}

TEST(LinearCrossEntropyOp, LowPrecisionAgreesWithFloat64) {
  // Logits are wide; bf16 rounds dz and then dh.
  for (const DType type : {DType::f32, DType::bf16}) {
    EXPECT_TRUE(check_precision(loss_of(targets_of(257, 65)), {.x = {{257, 33}}, .p = {{65, 33}}},
                                type, 2, 257));
  }
}

TEST(LinearCrossEntropyOp, LossesOfTheRowsMatchTheirDefinitionAndSumToTheLoss) {
  constexpr int64_t kRows = 257, kWidth = 3, kWords = 5;
  ParamStore store({{"head", {kWords, kWidth}, true}}, DType::f64);
  store.load(store.at("head"), random_tensor({kWords, kWidth}, 2));
  const Tensor targets = targets_of(kRows, kWords), h = random_tensor({kRows, kWidth}, 1);
  Tape tape(Tape::Mode::kOff);
  Tensor row_loss;
  const Value loss = linear_cross_entropy(tape.constant(h), store.at("head"), targets,
                                          {.gradient_scale = 1, .row_loss = &row_loss});
  EXPECT_EQ(row_loss.shape(), (Shape{kRows, 1}));
  const std::vector<double> x = doubles(h), w = doubles(store.at("head").master),
                            losses = doubles(row_loss);
  const std::vector<int32_t> ids = targets.to_host<int32_t>();
  double sum = 0;
  for (size_t n = 0; n < kRows; ++n) {
    double z[kWords], total = 0;
    for (size_t v = 0; v < kWords; ++v) {
      z[v] = 0;
      for (size_t d = 0; d < kWidth; ++d) z[v] += x[n * kWidth + d] * w[v * kWidth + d];
      total += std::exp(z[v]);
    }
    EXPECT_NEAR(losses[n], std::log(total) - z[ids[n]], 1e-14);
    sum += losses[n];
  }
  EXPECT_NEAR(doubles(loss.data)[0], sum, 1e-14 * sum * kRows);
}

// Logits of +-3000: exp overflows every type unless the maximum is taken off first.
TEST(LinearCrossEntropyOp, ExtremeLogitsStayFinite) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    ParamStore store({{"head", {3, 1}, true}}, type);
    const std::vector<double> weights{1, 0, -1}, h_values{3000, 3000, -3000};
    store.load(store.at("head"), Tensor::from_host<double>({3, 1}, weights));
    store.select_gradient(store.make_gradient());
    Tensor h = Tensor::empty({3, 1}, type), targets = Tensor::empty({3}, DType::i32);
    kernels(Device::cpu).cast(h.view(), Tensor::from_host<double>({3, 1}, h_values));
    const std::vector<int32_t> ids{0, 2, 2};  // right, as wrong as can be, right
    targets.copy_from(ids.data());
    Tape tape;
    Tensor row_loss;
    const Value leaf = tape.leaf(h);
    const Value loss = linear_cross_entropy(leaf, store.at("head"), targets,
                                            {.gradient_scale = 1, .row_loss = &row_loss});
    tape.backward(loss, 1.0);
    const double top = doubles(h)[0];  // 3000 as the type holds it
    EXPECT_EQ(doubles(row_loss), (std::vector<double>{0, 2 * top, 0}));
    EXPECT_EQ(doubles(tape.gradient(leaf)), (std::vector<double>{0, 2, 0}));
    EXPECT_EQ(doubles(store.at("head").gradient()), (std::vector<double>{top, 0, -top}));
  }
}

// The gradient is in its places when the forward returns, so that these must not change after it.
TEST(LinearCrossEntropyOp, RefusesAnotherSeedAndAnotherGradientBuffer) {
  ParamStore store({{"head", {5, 3}, true}}, DType::f32);
  store.load(store.at("head"), random_tensor({5, 3}, 1));
  const Tensor h = random_tensor({4, 3}, 2, DType::f32), targets = targets_of(4, 5);
  constexpr auto kCode = core::ExitCode::kInternal;
  store.select_gradient(store.make_gradient());
  Tape seeded, moved;
  const LossOptions options{.gradient_scale = 0.5, .row_loss = nullptr};
  const Value loss = linear_cross_entropy(seeded.leaf(h), store.at("head"), targets, options);
  expect_refusal(kCode,
                 "linear_cross_entropy: expected a backward from gradient_scale = 0.5, got 0.25",
                 [&] { seeded.backward(loss, 0.25); });
  const Value other = linear_cross_entropy(moved.leaf(h), store.at("head"), targets, options);
  store.select_gradient(store.make_gradient());
  expect_refusal(kCode,
                 "linear_cross_entropy: expected the gradient buffer of the forward, got another",
                 [&] { moved.backward(other, 0.5); });
}

TEST(LinearCrossEntropyOp, AnUnrecordedForwardLeavesTheGradientBufferAlone) {
  ParamStore store({{"head", {5, 3}, true}}, DType::f32);
  store.load(store.at("head"), random_tensor({5, 3}, 1));
  const Tensor gradient = store.make_gradient();
  store.select_gradient(gradient);
  Tape off(Tape::Mode::kOff);
  linear_cross_entropy(off.constant(random_tensor({4, 3}, 2, DType::f32)), store.at("head"),
                       targets_of(4, 5));
  EXPECT_EQ(doubles(gradient), std::vector<double>(doubles(gradient).size(), 0));
}

TEST(LinearCrossEntropyOp, RefusesOtherShapesAndTypes) {
  ParamStore store({{"head", {5, 3}, true}}, DType::f32);
  Tape tape;
  const Value h = tape.leaf(random_tensor({4, 3}, 1, DType::f32));
  const auto run = [&](const Value& x, const Tensor& targets) {
    return [&store, x, targets] { linear_cross_entropy(x, store.at("head"), targets); };
  };
  constexpr auto kCode = core::ExitCode::kInternal;
  expect_refusal(kCode, "linear_cross_entropy: expected a weight [V, 2], got [5, 3]",
                 run(tape.leaf(random_tensor({4, 2}, 1, DType::f32)), targets_of(4, 5)));
  expect_refusal(kCode, "linear_cross_entropy: expected targets [4], got [3]",
                 run(h, targets_of(3, 5)));
  expect_refusal(kCode, "linear_cross_entropy: expected ids of int32, got float32",
                 run(h, Tensor::zeros({4}, DType::f32)));
  expect_refusal(kCode, "linear_cross_entropy: expected ids in [0, 5), got 5 at 0",
                 run(h, targets_of(4, 6)));
  expect_refusal(kCode, "linear_cross_entropy: expected h.data of float32, got float64",
                 run(tape.leaf(random_tensor({4, 3}, 1)), targets_of(4, 5)));
}

}  // namespace
}  // namespace ag
