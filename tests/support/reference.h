// Plain loops in double against which the kernels are checked: one formula, no tiles, no tricks.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "autograd/kernels/attention_shape.h"

namespace ag::testing {

// Dense row-major matrices; the shapes are those of Kernels::attention_forward.
struct AttentionValues {
  std::vector<double> q, k_rope, k_nope, v, out, lse;
  int64_t rope_cols = 0, nope_cols = 0;
};

// Where element d of the key that query head h meets at row `row` lies.
inline double* key_element(std::vector<double>& rope, std::vector<double>& nope,
                           const AttentionValues& x, const AttentionShape& s, int64_t row,
                           int64_t h, int64_t d) {
  const auto g = static_cast<size_t>(h / (s.heads / s.kv_heads));
  const int64_t width = s.rope_width[g];
  if (d < width) return &rope[static_cast<size_t>(row * x.rope_cols + s.rope_begin[g] + d)];
  return &nope[static_cast<size_t>(row * x.nope_cols + s.nope_begin[g] + d - width)];
}

// Probabilities of query i of head h in sequence b over the keys [0, Tk - Tq + i]; their lse.
inline std::vector<double> reference_probabilities(AttentionValues& x, const AttentionShape& s,
                                                   int64_t b, int64_t h, int64_t i, double* lse) {
  std::vector<double> p;
  double maximum = -INFINITY, sum = 0;
  for (int64_t j = 0; j <= s.keys - s.queries + i; ++j) {
    double dot = 0;
    for (int64_t d = 0; d < s.head_dim; ++d) {
      dot += x.q[static_cast<size_t>(((b * s.queries + i) * s.heads + h) * s.head_dim + d)] *
             *key_element(x.k_rope, x.k_nope, x, s, b * s.keys + j, h, d);
    }
    p.push_back(s.scale * dot);
    maximum = std::fmax(maximum, p.back());
  }
  for (double score : p) sum += std::exp(score - maximum);
  *lse = maximum + std::log(sum);
  for (double& score : p) score = std::exp(score - maximum) / sum;
  return p;
}

// What is done to each term before it is added to a result: std::fabs yields the sums of absolute
// values, by which the effect of rounding the terms is bounded.
using Term = double (*)(double);
inline double as_it_is(double x) { return x; }

// out = P v and lse, from x.q, x.k_rope, x.k_nope, x.v.
inline void reference_attention(AttentionValues& x, const AttentionShape& s, Term term = as_it_is) {
  x.out.assign(static_cast<size_t>(s.batch * s.queries * s.heads * s.value_dim), 0);
  x.lse.assign(static_cast<size_t>(s.batch * s.heads * s.queries), 0);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.queries; ++i) {
        double& lse = x.lse[static_cast<size_t>((b * s.heads + h) * s.queries + i)];
        const std::vector<double> p = reference_probabilities(x, s, b, h, i, &lse);
        const int64_t g = h / (s.heads / s.kv_heads);
        for (size_t j = 0; j < p.size(); ++j) {
          const int64_t key = b * s.keys + static_cast<int64_t>(j);
          for (int64_t d = 0; d < s.value_dim; ++d) {
            x.out[static_cast<size_t>(((b * s.queries + i) * s.heads + h) * s.value_dim + d)] +=
                term(p[j] * x.v[static_cast<size_t>((key * s.kv_heads + g) * s.value_dim + d)]);
          }
        }
      }
    }
  }
}

// Gradients of sum(dout * out). x.out is taken as given (it may be rounded): with
// dP_ij = dout_i . v_j and delta_i = dout_i . out_i,
//   dv_j = sum_i P_ij dout_i,  dS_ij = scale P_ij (dP_ij - delta_i),
//   dq_i = sum_j dS_ij k_j,  dk_j = sum_i dS_ij q_i.
inline AttentionValues reference_attention_backward(AttentionValues& x,
                                                    const std::vector<double>& dout,
                                                    const AttentionShape& s, Term term = as_it_is) {
  AttentionValues grad;
  grad.q.assign(x.q.size(), 0);
  grad.k_rope.assign(x.k_rope.size(), 0);
  grad.k_nope.assign(x.k_nope.size(), 0);
  grad.v.assign(x.v.size(), 0);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t g = h / (s.heads / s.kv_heads);
      for (int64_t i = 0; i < s.queries; ++i) {
        double lse = 0;
        const std::vector<double> p = reference_probabilities(x, s, b, h, i, &lse);
        const int64_t query = (b * s.queries + i) * s.heads + h;
        const double* dy = &dout[static_cast<size_t>(query * s.value_dim)];
        double delta = 0;
        for (int64_t d = 0; d < s.value_dim; ++d) {
          delta += dy[d] * x.out[static_cast<size_t>(query * s.value_dim + d)];
        }
        for (size_t j = 0; j < p.size(); ++j) {
          const int64_t key = b * s.keys + static_cast<int64_t>(j);
          double dp = 0;
          for (int64_t d = 0; d < s.value_dim; ++d) {
            const auto at = static_cast<size_t>((key * s.kv_heads + g) * s.value_dim + d);
            dp += dy[d] * x.v[at];
            grad.v[at] += term(p[j] * dy[d]);
          }
          const double ds = s.scale * p[j] * (dp - delta);
          for (int64_t d = 0; d < s.head_dim; ++d) {
            const auto at = static_cast<size_t>(query * s.head_dim + d);
            grad.q[at] += term(ds * *key_element(x.k_rope, x.k_nope, x, s, key, h, d));
            *key_element(grad.k_rope, grad.k_nope, x, s, key, h, d) += term(ds * x.q[at]);
          }
        }
      }
    }
  }
  return grad;
}

}  // namespace ag::testing
