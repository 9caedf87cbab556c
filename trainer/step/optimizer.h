// AdamW on the store's share of the flat trainable elements (Loshchilov and Hutter, decoupled decay
// on every parameter as the paper does), and the global gradient norm.
#pragma once

#include <cstdint>
#include <string>

#include "autograd/params.h"

namespace trainer {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.01;
};

class AdamW {
 public:
  AdamW(ag::ParamStore& params, const AdamWOptions& options);

  // One update of params.own_range() with `gradient` [trainable_numel] times gradient_scale; counts
  // itself.
  void step(const ag::Tensor& gradient, double learning_rate, double gradient_scale);

  // Updates done; part of the state, like the moments.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  // [n]: of the elements params.part_of(param, own share); all of them when nothing is dealt.
  ag::Tensor m(const ag::Param& param) const { return own_part(m_, param); }
  ag::Tensor v(const ag::Param& param) const { return own_part(v_, param); }

 private:
  ag::Tensor own_part(const ag::Tensor& moments, const ag::Param& param) const;

  ag::ParamStore& params_;
  AdamWOptions options_;
  ag::Tensor m_, v_;  // of params_.own_range(), wide
  int64_t steps_ = 0;
};

// L2 norm over all parameters, summed in float64 in a fixed order.
double gradient_norm(const ag::Tensor& gradient);

// The factor that brings `norm` down to `clip_grad`; 1 when it is below, or clip_grad is 0.
double clip_scale(double norm, double clip_grad);

// The first trainable parameter whose gradient has a NaN or an infinity; empty when there is none.
std::string first_nonfinite_gradient(const ag::ParamStore& params, const ag::Tensor& gradient);

}  // namespace trainer
