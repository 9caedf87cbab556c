// Recompute: the same bits for half the memory and one more forward.
#include "autograd/checkpoint.h"

#include "tests/autograd/residual_stack.h"

namespace ag::test {
namespace {

using Recompute = ResidualStack::Recompute;

TEST(Checkpoint, GradientsAreTheSameBits) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    ResidualStack stack(65, 24, 5, type);
    EXPECT_EQ(stack.gradients(Recompute::kOn), stack.gradients(Recompute::kOff)) << name_of(type);
  }
}

TEST(Checkpoint, EachBlockRunsTwice) {
  ResidualStack stack(8, 16, 5);
  Tape tape;
  const Value loss = stack.loss(tape, Recompute::kOn);
  EXPECT_EQ(stack.block_calls, 5);
  EXPECT_EQ(tape.nodes(), 1U + 5 + 2);  // one record per block
  tape.backward(loss, 1.0);
  EXPECT_EQ(stack.block_calls, 10);
}

TEST(Checkpoint, OffOrFrozenRunsOnceAndKeepsNothing) {
  ResidualStack stack(8, 16, 5), frozen(8, 16, 5, DType::f64, /*trainable=*/false);
  Tape off(Tape::Mode::kOff), tape;
  stack.hidden(off, Recompute::kOn);
  frozen.hidden(tape, Recompute::kOn);
  EXPECT_EQ(stack.block_calls, 5);
  EXPECT_EQ(frozen.block_calls, 5);
  EXPECT_EQ(off.nodes() + tape.nodes(), 0U);
}

// The input wants no gradient, the parameters inside do.
TEST(Checkpoint, ConstantInput) {
  ResidualStack stack(8, 16, 1);
  const Tensor x = test_support::random_tensor({8, 16}, 9);
  std::vector<std::vector<double>> gradients;
  for (const bool recompute : {false, true}) {
    Tensor flat = stack.store.make_gradient();
    stack.store.select_gradient(flat);
    Tape tape;
    const auto block = [&](const Value& in) { return stack.block(in, 0); };
    const Value y = recompute ? checkpoint(tape.constant(x), block) : block(tape.constant(x));
    tape.backward(y, x);
    gradients.push_back(test_support::doubles(flat));
  }
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_NE(gradients[0], std::vector<double>(gradients[0].size(), 0));
}

TEST(Checkpoint, ClonesInsideAreCounted) {
  Tape tape;
  const Tensor data = test_support::random_tensor({2, 3}, 1);
  const Value x = tape.leaf(data);
  tape.backward(checkpoint(x, [](const Value& v) { return add(v, v); }), data);
  EXPECT_EQ(tape.clones(), 1);
  EXPECT_EQ(test_support::doubles(data), test_support::random_values(6, 1));
}

TEST(Checkpoint, KeepsOnlyTheInputOfEachBlock) {
  constexpr int64_t kTokens = 256, kWidth = 64;
  constexpr int kBlocks = 12;
  constexpr int64_t kStream = kTokens * kWidth * 4;  // bytes of one residual stream
  struct Bytes {
    int64_t live, peak;
  };
  const auto measure = [](Recompute recompute) {
    ResidualStack stack(kTokens, kWidth, kBlocks, DType::f32);
    const int64_t before = Pool::statistics().live_bytes;
    Pool::reset_peak();
    Tape tape;
    const Value y = stack.hidden(tape, recompute);
    const int64_t live = Pool::statistics().live_bytes - before;
    tape.backward(y, y.data);
    return Bytes{live, Pool::statistics().peak_bytes - before};
  };
  const Bytes plain = measure(Recompute::kOff), recomputed = measure(Recompute::kOn);
  // An input per block and the last output.
  EXPECT_EQ(recomputed.live, (kBlocks + 1) * kStream);
  // A block keeps its input, the norm, gate, up (2 streams wide each) and their product (2).
  EXPECT_GE(plain.live, kBlocks * 8 * kStream);
  // The backward holds one block at a time: what it keeps, and the gradients of that.
  EXPECT_LE(recomputed.peak, (kBlocks + 1 + 2 * 8) * kStream);
  EXPECT_LT(2 * recomputed.peak, plain.peak);
}

}  // namespace
}  // namespace ag::test
