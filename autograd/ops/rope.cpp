// Partial rotary embedding: a rotation of some column pairs and a permutation of all columns, so
// the backward is the transpose.
#include <cmath>

#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

struct Rope {
  static constexpr const char* kName = "rope";
  const RopePlan* plan;
  RopeTable table;
  int64_t tokens, first_position;

  void backward(Grads& g) const {
    kernels(g.out().device())
        .rope(g.in(0), g.out(), *plan, table.cosine, table.sine, tokens, first_position,
              /*inverse=*/true);
  }
};

void check_frequencies(const RopePlan& plan, int64_t frequencies) {
  for (const RopePair& p : plan.pairs)
    CHECK_ARGUMENT("rope", p.frequency >= 0 && p.frequency < frequencies,
                   "frequencies in [0, " + std::to_string(frequencies) + ")",
                   std::to_string(p.frequency));
}

}  // namespace

RopeTable RopeTable::build(const std::vector<double>& inverse_frequencies, int64_t positions,
                           DType wide) {
  const auto pairs = static_cast<int64_t>(inverse_frequencies.size());
  std::vector<double> cosine, sine;
  for (int64_t t = 0; t < positions; ++t) {
    for (const double frequency : inverse_frequencies) {
      cosine.push_back(std::cos(static_cast<double>(t) * frequency));
      sine.push_back(std::sin(static_cast<double>(t) * frequency));
    }
  }
  const auto to_wide = [&](const std::vector<double>& values) {
    Tensor t = Tensor::empty({positions, pairs}, wide);
    const Tensor exact = Tensor::from_host<double>({positions, pairs}, values);
    kernels(t.device()).cast(t.view(), exact);
    return t;
  };
  return {to_wide(cosine), to_wide(sine)};
}

Value rope(const Value& x, const RopePlan& plan, const RopeTable& table, int64_t tokens,
           int64_t first_position) {
  CHECK_ARGUMENT("rope", x.data.cols() == plan.columns, "[N, " + std::to_string(plan.columns) + "]",
                 to_string(x.data.shape()));
  CHECK_ARGUMENT("rope", tokens > 0 && x.data.rows() % tokens == 0, "whole sequences",
                 std::to_string(x.data.rows()) + " rows of " + std::to_string(tokens));
  CHECK_ARGUMENT("rope", first_position >= 0 && first_position <= table.cosine.rows() - tokens,
                 "positions in [0, " + std::to_string(table.cosine.rows()) + ")",
                 std::to_string(tokens) + " from " + std::to_string(first_position));
  CHECK_DTYPE("rope", table.cosine, wide_of(x.data.dtype()));
  CHECK_DTYPE("rope", table.sine, table.cosine.dtype());
  CHECK_SHAPE("rope", table.sine, table.cosine.shape());
  check_frequencies(plan, table.cosine.cols());
  Tensor y = Tensor::like(x.data);
  kernels(y.device())
      .rope(y.view(), x.data, plan, table.cosine, table.sine, tokens, first_position, false);
  return x.tape->record(Rope{&plan, table, tokens, first_position}, {x}, y);
}

}  // namespace ag
