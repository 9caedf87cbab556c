// The traced table: the same bits, and events that say what was done.
#include "autograd/kernels/traced.h"

#include <map>
#include <string>

#include "core/trace.h"
#include "tests/autograd/residual_stack.h"

namespace ag::test {
namespace {

using Recompute = ResidualStack::Recompute;
using core::trace::Event;

class Traced : public testing::Test {
 protected:
  void TearDown() override { core::trace::stop(); }
};

std::map<std::string, std::vector<Event>> events_by_name() {
  std::map<std::string, std::vector<Event>> events;
  for (const core::trace::Thread& thread : core::trace::recording().threads)
    for (const Event& event : thread.events) events[event.name].push_back(event);
  return events;
}

TEST_F(Traced, SameBits) {
  for (const Recompute recompute : {Recompute::kOff, Recompute::kOn}) {
    ResidualStack stack(33, 24, 3, DType::bf16);
    const auto plain = stack.gradients(recompute);
    core::trace::start();
    EXPECT_EQ(stack.gradients(recompute), plain);
    core::trace::stop();
    EXPECT_FALSE(events_by_name().empty());
  }
}

TEST_F(Traced, ProductsOfALinear) {
  ParamStore store({{"w", {5, 3}, true}}, DType::f32);
  store.load(store.at("w"), test_support::random_tensor({5, 3}, 1));
  store.select_gradient(store.make_gradient());
  const Tensor dy = test_support::random_tensor({4, 5}, 2, DType::f32);
  core::trace::start();
  Tape tape;
  {
    const core::trace::ContextScope layer({core::trace::Phase::forward, 6});
    const Value x = tape.leaf(test_support::random_tensor({4, 3}, 3, DType::f32));
    const Value y = linear(x, store.at("w"), nullptr);
    tape.backward(y, dy);
  }
  core::trace::stop();
  const auto events = events_by_name();
  for (const std::string name : {"gemm forward", "gemm dgrad", "gemm wgrad"}) {
    ASSERT_EQ(events.count(name), 1U) << name;
    ASSERT_EQ(events.at(name).size(), 1U) << name;
    const Event& event = events.at(name)[0];
    EXPECT_EQ(event.flops, 2.0 * 4 * 3 * 5) << name;
    EXPECT_EQ(event.layer, 6) << name;
    EXPECT_STREQ(event.category, name == "gemm forward" ? "forward" : "backward");
  }
  EXPECT_EQ(events.at("gemm forward")[0].bytes, 4 * (4 * 5 + 4 * 3 + 5 * 3));
  // The gradient of a parameter is added to: read, then written.
  EXPECT_EQ(events.at("gemm wgrad")[0].bytes, 4 * (4 * 5 + 4 * 3 + 2 * 5 * 3));
}

TEST_F(Traced, RecomputeHasItsOwnName) {
  std::map<bool, size_t> forward, again;
  for (const bool recompute : {false, true}) {
    ResidualStack stack(8, 16, 3);
    core::trace::start();
    stack.gradients(recompute ? Recompute::kOn : Recompute::kOff);
    core::trace::stop();
    const auto events = events_by_name();
    forward[recompute] = events.at("gemm forward").size();
    again[recompute] = events.count("gemm recompute") == 0 ? 0 : events.at("gemm recompute").size();
  }
  EXPECT_EQ(forward[true], forward[false]);
  EXPECT_GT(again[true], again[false]);
}

// The three queries see 3, 4 and 5 keys.
TEST_F(Traced, WorkOfAttentionCountsVisiblePairs) {
  const AttentionShape shape{.batch = 2,
                             .queries = 3,
                             .keys = 5,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 8,
                             .value_dim = 6,
                             .scale = 1,
                             .rope_begin = {0, 8},
                             .rope_width = {8, 8},
                             .nope_begin = {0, 0}};
  Tape tape(Tape::Mode::kOff);
  const auto constant = [&](Shape s) { return tape.constant(test_support::random_tensor(s, 1)); };
  core::trace::start();
  attention(constant({6, 32}), constant({10, 16}), tape.constant({}), constant({10, 12}), shape);
  core::trace::stop();
  const Event event = events_by_name().at("attention forward").at(0);
  EXPECT_EQ(event.flops, 2.0 * 2 * 4 * 12 * (8 + 6));
}

}  // namespace
}  // namespace ag::test
