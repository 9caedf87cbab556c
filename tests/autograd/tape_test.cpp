// The engine: what is recorded and kept, when gradients are final, what is cloned and refused.
#include "autograd/tape.h"

#include <cstdlib>
#include <iostream>
#include <map>

#include "tests/autograd/residual_stack.h"
#include "tests/support/refusal.h"

namespace ag::test {
namespace {

using Recompute = ResidualStack::Recompute;
using test_support::doubles;
using test_support::expect_refusal;
using test_support::random_tensor;

int64_t live_bytes() { return Pool::statistics().live_bytes; }

TEST(Tape, OffRecordsNothing) {
  ResidualStack stack(8, 16, 3);
  Tape tape(Tape::Mode::kOff);
  const Value loss = stack.loss(tape);
  EXPECT_FALSE(loss.wants_gradient());
  EXPECT_FALSE(tape.leaf(random_tensor({2}, 1)).wants_gradient());
  EXPECT_EQ(tape.nodes(), 0U);
  Tape recording;
  EXPECT_EQ(doubles(stack.loss(recording).data), doubles(loss.data));
  // Embedding, 5 records in each of 3 blocks, the last norm and the loss.
  EXPECT_EQ(recording.nodes(), 1U + 3 * 5 + 2);
}

TEST(Tape, FrozenStackKeepsNothing) {
  ResidualStack frozen(256, 64, 6, DType::f32, /*trainable=*/false);
  Tape tape;
  const int64_t before = live_bytes();
  const Value x = frozen.hidden(tape, Recompute::kOff);
  EXPECT_EQ(tape.nodes(), 0U);
  EXPECT_EQ(live_bytes() - before, x.data.bytes());
}

TEST(Tape, LinearKeepsItsInputOnlyForTheGradientOfTheWeight) {
  const auto kept_by_linear = [](bool trainable) {
    ParamStore store({{"w", {32, 128}, trainable}}, DType::f32);
    Tape tape;
    const Value a = tape.leaf(random_tensor({64, 128}, 1, DType::f32));
    const int64_t before = live_bytes();
    const Value y = linear(add(a, a), store.at("w"), nullptr);  // the sum dies here, or is kept
    return live_bytes() - before - y.data.bytes();
  };
  EXPECT_EQ(kept_by_linear(true), 64 * 128 * 4);
  EXPECT_EQ(kept_by_linear(false), 0);
}

TEST(Tape, BackwardFreesAsItGoes) {
  ResidualStack stack(256, 64, 6, DType::f32);
  const int64_t before = live_bytes();
  Tape tape;
  tape.backward(stack.loss(tape), 1.0);
  EXPECT_EQ(tape.nodes(), 0U);
  EXPECT_EQ(live_bytes(), before);  // although the tape still lives
}

// With recompute the gradient changes tapes at every block.
TEST(Tape, ResidualStackNeedsNoClones) {
  for (const Recompute recompute : {Recompute::kOff, Recompute::kOn}) {
    ResidualStack stack(8, 16, 6);
    Tape tape;
    tape.backward(stack.loss(tape, recompute), 1.0);
    EXPECT_EQ(tape.clones(), 0);
  }
}

TEST(Tape, SharedGradientIsClonedBeforeItIsAddedTo) {
  Tape tape;
  const Value x = tape.leaf(random_tensor({2, 3}, 1));
  const Tensor seed = random_tensor({2, 3}, 2);
  tape.backward(add(x, x), seed);
  EXPECT_EQ(tape.clones(), 1);
  std::vector<double> twice = test_support::random_values(6, 2);
  EXPECT_EQ(doubles(seed), twice);
  for (double& v : twice) v *= 2;
  EXPECT_EQ(doubles(tape.gradient(x)), twice);
}

// Two micro-batches into one buffer: the sum of both, without a word about it in the op.
TEST(Tape, GradientsOfParametersAddUpOverTapes) {
  ResidualStack stack(8, 16, 2);
  std::vector<double> once = stack.gradients(Recompute::kOff);
  Tensor flat = stack.store.make_gradient();
  stack.store.select_gradient(flat);
  for (int i = 0; i < 2; ++i) {
    Tape tape;
    tape.backward(stack.loss(tape), 1.0);
  }
  for (double& v : once) v *= 2;
  EXPECT_LE(test_support::relative_distance(doubles(flat), once), 1e-15);
}

// Each trainable parameter is announced once, after its gradient has got its last bit.
void expect_final_once(Recompute recompute) {
  ResidualStack stack(8, 16, 4);
  const std::vector<double> before = doubles(stack.store.selected_gradient());
  std::map<std::string, std::vector<double>> announced;
  std::vector<std::string> order;
  Tape tape;
  tape.on_param_final = [&](Param& p) {
    order.push_back(p.name);
    EXPECT_TRUE(announced.emplace(p.name, doubles(p.gradient())).second) << p.name << " twice";
  };
  tape.backward(stack.loss(tape, recompute), 1.0);
  EXPECT_EQ(announced.size(), stack.store.all().size());
  for (const Param& p : stack.store.all()) {
    EXPECT_EQ(announced[p.name], doubles(p.gradient())) << p.name << " changed after it was final";
    EXPECT_NE(announced[p.name], std::vector<double>(announced[p.name].size(), 0)) << p.name;
  }
  ASSERT_FALSE(order.empty());
  EXPECT_EQ(order.front(), "norm");  // of the last layers
  EXPECT_EQ(order.back(), "table");  // tied: used last and first
}

TEST(Tape, ParametersAreFinalOnce) { expect_final_once(Recompute::kOff); }
TEST(Tape, ParametersAreFinalOnceUnderRecompute) { expect_final_once(Recompute::kOn); }

TEST(Tape, ParameterUsedAfterTheLastRecordDoesNotHoldUpTheOthers) {
  ParamStore store({{"a", {3, 3}, true}, {"b", {3, 3}, true}}, DType::f64);
  store.select_gradient(store.make_gradient());
  Tape tape;
  std::vector<std::string> order;
  tape.on_param_final = [&](Param& p) { order.push_back(p.name); };
  const Tensor x = random_tensor({2, 3}, 1);
  const Value y = linear(tape.constant(x), store.at("a"), nullptr);
  tape.use(store.at("b"));
  tape.backward(y, x);
  EXPECT_EQ(order, (std::vector<std::string>{"b", "a"}));
}

TEST(Tape, DeepTapeNeedsNoStack) {
  constexpr int kDepth = 20000;
  Tape tape;
  const std::vector<double> start{1, 2};
  const Value x = tape.leaf(Tensor::from_host<double>({2}, start));
  Value y = x;
  for (int i = 0; i < kDepth; ++i) y = add(y, x);
  EXPECT_EQ(doubles(y.data), (std::vector<double>{1.0 * (kDepth + 1), 2.0 * (kDepth + 1)}));
  tape.backward(y, x.data);
  EXPECT_EQ(doubles(tape.gradient(x)),
            (std::vector<double>{1.0 * (kDepth + 1), 2.0 * (kDepth + 1)}));
  Tape dropped;  // a tape that is never run backwards
  Value z = dropped.leaf(x.data);
  for (int i = 0; i < kDepth; ++i) z = add(z, z);
}

TEST(Tape, UnusedOutputsAndConstantsHaveNoGradient) {
  Tape tape;
  const Value x = tape.leaf(random_tensor({2}, 1)), unused = tape.leaf(random_tensor({2}, 2));
  add(x, unused);  // nobody uses the sum
  const Value y = add(x, tape.constant(random_tensor({2}, 3)));
  tape.backward(y, y.data);
  EXPECT_FALSE(tape.gradient(unused).defined());
  EXPECT_EQ(doubles(tape.gradient(x)), doubles(y.data));
}

TEST(Tape, RefusesValuesAndSeedsThatAreNotItsOwn) {
  constexpr auto kCode = core::ExitCode::kInternal;
  Tape tape, other;
  const Tensor data = random_tensor({2, 3}, 1);
  const Value x = tape.leaf(data), y = other.leaf(data);
  expect_refusal(kCode, "add: expected inputs of one tape, got two tapes", [&] { add(x, y); });
  const Value first = add(x, x), last = add(x, first);
  expect_refusal(kCode, "backward: expected the last value of this tape",
                 [&] { tape.backward(first, data); });
  expect_refusal(kCode, "backward: expected the last value of this tape",
                 [&] { other.backward(last, data); });
  expect_refusal(kCode, "backward: expected seed [2, 3], got [3, 2]", [&] {
    tape.backward(last, random_tensor({3, 2}, 1));
  });
  expect_refusal(kCode, "backward: expected seed of float64, got float32", [&] {
    tape.backward(last, random_tensor({2, 3}, 1, DType::f32));
  });
  expect_refusal(kCode, "gradient: expected a leaf of this tape", [&] { tape.gradient(y); });
  expect_refusal(kCode, "gradient: expected a leaf of this tape",
                 [&] { tape.gradient(tape.constant(data)); });
}

// The variable is read once, so each case runs in a new process.
[[noreturn]] void run_with_check_finite(bool in_backward) {
  ::setenv("MHA2MLA_CHECK_FINITE", "1", 1);
  try {
    Tape tape;
    const Tensor good = random_tensor({2}, 1);
    const std::vector<double> numbers{1, NAN};
    const Tensor bad = Tensor::from_host<double>({2}, numbers);
    const Value x = tape.leaf(good);
    const Value y = add(x, in_backward ? x : tape.constant(bad));
    tape.backward(y, in_backward ? bad : good);
  } catch (const core::Error& e) {
    std::cerr << e.what();
    std::_Exit(static_cast<int>(e.code()));
  }
  std::_Exit(0);
}

TEST(TapeDeathTest, CheckFiniteNamesTheOp) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_with_check_finite(false), testing::ExitedWithCode(79),
              "add: expected finite values in its output, got 1 that are not");
  EXPECT_EXIT(run_with_check_finite(true), testing::ExitedWithCode(79),
              "add: expected finite values in the gradient of its output, got 1 that are not");
}

}  // namespace
}  // namespace ag::test
