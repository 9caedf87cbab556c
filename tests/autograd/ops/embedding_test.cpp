// embedding: repeated and unused tokens, refusals.
#include "tests/support/precision_check.h"
#include "tests/support/refusal.h"

namespace ag {
namespace {

using test_support::check_grad;
using test_support::check_precision;
using test_support::expect_refusal;
using test_support::OpInputs;

Tensor token_ids(const std::vector<int32_t>& ids) {
  return Tensor::from_host<int32_t>({static_cast<int64_t>(ids.size())}, ids);
}

test_support::Op lookup(const std::vector<int32_t>& ids) {
  return [ids](OpInputs& in) { return embedding(in.tape, *in.p[0], token_ids(ids)); };
}

TEST(EmbeddingOp, GradientMatchesFiniteDifferences) {
  for (const int64_t width : {1, 2, 3, 17, 64, 65}) {
    EXPECT_TRUE(check_grad(lookup({0}), {.p = {{1, width}}})) << width;
    // Token 4 comes three times, tokens 1 and 3 never.
    EXPECT_TRUE(check_grad(lookup({4, 0, 4, 2, 4}), {.p = {{5, width}}})) << width;
  }
}

TEST(EmbeddingOp, LowPrecisionAgreesWithFloat64) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 65; ++i) ids.push_back(i * i % 7);
  // The output is wide: the values of the table pass through unrounded.
  for (const DType type : {DType::f32, DType::bf16})
    EXPECT_TRUE(check_precision(lookup(ids), {.p = {{7, 17}}}, type, 0, 65));
}

TEST(EmbeddingOp, RefusesOtherIdsAndTables) {
  constexpr auto kCode = core::ExitCode::kInternal;
  ParamStore store({{"table", {3, 2}, true}, {"vector", {3}, true}}, DType::f32);
  Tape tape;
  const auto look_up = [&](const char* name, const Tensor& ids) {
    return [&, name, ids] { embedding(tape, store.at(name), ids); };
  };
  expect_refusal(kCode, "embedding: expected ids of int32",
                 look_up("table", Tensor::zeros({4}, DType::f32)));
  expect_refusal(kCode, "embedding: expected ids in [0, 3), got 3 at 1",
                 look_up("table", token_ids({2, 3, 0})));
  expect_refusal(kCode, "embedding: expected ids in [0, 3), got -1 at 0",
                 look_up("table", token_ids({-1})));
  expect_refusal(kCode, "embedding: expected a table [V, D], got [3]",
                 look_up("vector", token_ids({0})));
}

}  // namespace
}  // namespace ag
