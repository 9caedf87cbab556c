// rope: plans built by hand. A gather plan keeps other pairs in every head; a compact plan moves
// the rotary columns of a head to its front.
#include <cmath>

#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_precision;
using test_support::doubles;
using test_support::expect_refusal;
using test_support::OpInputs;
using test_support::random_tensor;

// Heads of width `2 * half`; head h turns the pairs in kept[h], the others pass. `compact` places
// the rotary columns of the head first (pair halves apart), then the rest in order.
RopePlan plan_of(int32_t half, const std::vector<std::vector<int32_t>>& kept, bool compact) {
  RopePlan plan;
  for (const std::vector<int32_t>& pairs : kept) {
    const auto base = static_cast<int32_t>(plan.columns);
    const auto rotary = static_cast<int32_t>(pairs.size());
    std::vector<bool> turned(static_cast<size_t>(half), false);
    for (int32_t i = 0; i < rotary; ++i) {
      const int32_t k = pairs[static_cast<size_t>(i)];
      turned[static_cast<size_t>(k)] = true;
      const int32_t to_a = compact ? i : k, to_b = compact ? rotary + i : half + k;
      plan.pairs.push_back({base + k, base + half + k, base + to_a, base + to_b, k});
    }
    int32_t next = 2 * rotary;
    for (int32_t c = 0; c < 2 * half; ++c) {
      if (turned[static_cast<size_t>(c % half)]) continue;
      plan.copies.push_back({base + c, base + (compact ? next++ : c), 1});
    }
    plan.columns += 2 * half;
  }
  return plan;
}

struct Case {
  RopePlan plan;
  int64_t batch, tokens, first_position;
};

std::vector<Case> cases() {
  return {
      {plan_of(1, {{0}}, false), 1, 1, 0},                           // the smallest head
      {plan_of(4, {{0, 1, 2, 3}}, false), 2, 3, 0},                  // full RoPE
      {plan_of(4, {{}, {}}, false), 1, 2, 5},                        // no rotary column at all
      {plan_of(4, {{0, 3}, {1, 2}, {2, 3}}, false), 2, 3, 0},        // other pairs per head
      {plan_of(4, {{0, 3}, {1}, {}, {0, 1, 2, 3}}, true), 2, 7, 4},  // other widths per head
      {plan_of(17, {{0, 1, 2, 5, 16}}, true), 1, 2, 30},             // runs and single pairs
  };
}

RopeTable table_for(int64_t pairs, DType wide) {
  std::vector<double> frequencies;
  for (int64_t k = 0; k < pairs; ++k)
    frequencies.push_back(std::pow(100.0, -static_cast<double>(k) / static_cast<double>(pairs)));
  return RopeTable::build(frequencies, 40, wide);
}

TEST(RopeOp, GradientMatchesFiniteDifferences) {
  const RopeTable table = table_for(17, DType::f64);
  for (const Case& c : cases()) {
    const auto op = [&](OpInputs& in) {
      return rope(in.x[0], c.plan, table, c.tokens, c.first_position);
    };
    EXPECT_TRUE(check_grad(op, {.x = {{c.batch * c.tokens, c.plan.columns}}})) << c.plan.columns;
  }
}

TEST(RopeOp, LowPrecisionAgreesWithFloat64) {
  const RopeTable f32 = table_for(17, DType::f32), f64 = table_for(17, DType::f64);
  for (const Case& c : cases()) {
    const auto op = [&](OpInputs& in) {
      return rope(in.x[0], c.plan, in.type == DType::f64 ? f64 : f32, c.tokens, c.first_position);
    };
    const Shape shape{c.batch * c.tokens, c.plan.columns};
    // f32: the rounded table, two products and a sum.
    EXPECT_TRUE(check_precision(op, {.x = {shape}}, DType::f32, 4, 1));
    EXPECT_TRUE(check_precision(op, {.x = {shape}}, DType::bf16, 1, 4));
  }
}

TEST(RopeOp, TurnsByPositionTimesFrequency) {
  const RopeTable table = table_for(17, DType::f64);
  for (const Case& c : cases()) {
    Tape tape;
    const Tensor x = random_tensor({c.batch * c.tokens, c.plan.columns}, 3);
    const Tensor y = rope(tape.constant(x), c.plan, table, c.tokens, c.first_position).data;
    const std::vector<double> from = doubles(x), to = doubles(y);
    for (int64_t n = 0; n < x.rows(); ++n) {
      const auto at = [&](int32_t column) {
        return static_cast<size_t>(n * c.plan.columns + column);
      };
      for (const RopePair& p : c.plan.pairs) {
        const double angle = static_cast<double>(c.first_position + n % c.tokens) *
                             std::pow(100.0, -static_cast<double>(p.frequency) / 17);
        const double a = from[at(p.in_a)], b = from[at(p.in_b)];
        EXPECT_NEAR(to[at(p.out_a)], a * std::cos(angle) - b * std::sin(angle), 1e-15);
        EXPECT_NEAR(to[at(p.out_b)], b * std::cos(angle) + a * std::sin(angle), 1e-15);
        EXPECT_NEAR(std::hypot(to[at(p.out_a)], to[at(p.out_b)]), std::hypot(a, b), 1e-15);
      }
      for (const RopeCopy& copy : c.plan.copies)
        EXPECT_EQ(to[at(copy.out)], from[at(copy.in)]);  // bits
    }
  }
}

// The backward is the transpose, and the transpose of a rotation undoes it.
TEST(RopeOp, BackwardOfTheOutputIsTheInput) {
  const RopeTable table = table_for(17, DType::f64);
  for (const Case& c : cases()) {
    Tape tape;
    const Tensor x = random_tensor({c.batch * c.tokens, c.plan.columns}, 4);
    const Value leaf = tape.leaf(x);
    const Value y = rope(leaf, c.plan, table, c.tokens, c.first_position);
    tape.backward(y, y.data);
    EXPECT_LE(test_support::relative_distance(tape.gradient(leaf), x), 4 * 0x1p-53);
  }
}

TEST(RopeOp, RefusesOtherShapesTypesAndPositions) {
  const RopeTable table = table_for(4, DType::f64);
  const RopePlan plan = plan_of(4, {{0}}, false);
  Tape tape;
  const auto turn = [&](const Shape& shape, DType type, int64_t tokens, int64_t first) {
    return [&, shape, type, tokens, first] {
      rope(tape.leaf(random_tensor(shape, 1, type)), plan, table, tokens, first);
    };
  };
  constexpr auto kCode = core::ExitCode::kInternal;
  expect_refusal(kCode, "rope: expected [N, 8], got [4, 6]", turn({4, 6}, DType::f64, 2, 0));
  expect_refusal(kCode, "rope: expected whole sequences", turn({4, 8}, DType::f64, 3, 0));
  expect_refusal(kCode, "rope: expected positions in [0, 40)", turn({4, 8}, DType::f64, 2, 39));
  expect_refusal(kCode, "rope: expected positions in [0, 40)", turn({4, 8}, DType::f64, 2, -1));
  expect_refusal(kCode, "rope: expected table.cosine of float32", turn({4, 8}, DType::bf16, 2, 0));
  const RopePlan beyond = plan_of(5, {{0, 4}}, false);  // the table ends at frequency 3
  expect_refusal(kCode, "rope: expected frequencies in [0, 4), got 4", [&] {
    rope(tape.leaf(random_tensor({4, 10}, 1)), beyond, table, 2, 0);
  });
}

}  // namespace
}  // namespace ag
