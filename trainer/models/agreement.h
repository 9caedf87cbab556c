// How far two models are apart: logits of A and B on the same ids, and their stored tensors.
//   KL(A||B) = mean over positions of sum_v p_A(v) (log p_A(v) - log p_B(v)), nats
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"

namespace trainer {

// Sums over the rows seen so far, in float64.
class Agreement {
 public:
  // Logits of `rows` successive positions of one sequence, a and b [rows, V] row-major, and its ids
  // from the first of them on: `rows` of them at the end of the sequence, else more.
  void add(std::span<const float> a, std::span<const float> b, std::span<const int32_t> ids,
           int64_t rows);

  int64_t positions() const { return positions_; }
  int64_t targets() const { return targets_; }
  double max_difference() const { return max_difference_; }
  double largest_logit() const { return largest_logit_; }  // of A, without its sign
  double mean_difference() const { return mean(difference_, elements_); }
  double kl() const { return mean(kl_, positions_); }
  double top1_agreement() const { return mean(static_cast<double>(same_top1_), positions_); }
  double nll_a() const { return mean(nll_a_, targets_); }  // of the S - 1 shifted targets
  double nll_b() const { return mean(nll_b_, targets_); }

 private:
  static double mean(double sum, int64_t count) {
    return count == 0 ? 0 : sum / static_cast<double>(count);
  }
  void add_row(const float* a, const float* b, int64_t vocab, const int32_t* target);

  int64_t positions_ = 0, targets_ = 0, elements_ = 0, same_top1_ = 0;
  double max_difference_ = 0, largest_logit_ = 0, difference_ = 0, kl_ = 0, nll_a_ = 0, nll_b_ = 0;
};

struct TensorDifference {
  std::string tensor, difference;  // "only in A", "float32 [4] in A, float32 [5] in B", ...
};

// Names, dtypes, shapes and bytes of every parameter, and the kept pairs.
std::vector<TensorDifference> compare_bits(const model::Model& a, const model::Model& b);

}  // namespace trainer
