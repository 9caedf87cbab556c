#include "trainer/step/optimizer.h"

#include <cmath>

#include "autograd/kernels/kernels.h"

namespace trainer {

AdamW::AdamW(ag::ParamStore& params, const AdamWOptions& options)
    : params_(params),
      options_(options),
      m_(ag::Tensor::zeros({params.own_range().size()}, params.wide_dtype())),
      v_(ag::Tensor::like(m_)) {
  v_.fill_zero();
}

ag::Tensor AdamW::own_part(const ag::Tensor& moments, const ag::Param& param) const {
  const ag::ElementRange part = params_.part_of(param, params_.share().index);
  const int64_t begin = param.offset + part.begin - params_.own_range().begin;
  return moments.slice(part.size() == 0 ? 0 : begin, {part.size()});
}

void AdamW::step(const ag::Tensor& gradient, double learning_rate, double gradient_scale) {
  ++steps_;
  const ag::ElementRange own = params_.own_range();
  ag::Tensor master = params_.own_master(), working = params_.own_working();
  const ag::AdamWStep step{.learning_rate = learning_rate,
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .eps = options_.eps,
                           .weight_decay = options_.weight_decay,
                           .gradient_scale = gradient_scale,
                           .step = steps_};
  ag::kernels(master.device())
      .adamw(master.view(), working.defined() ? working.view() : ag::View{}, m_.view(), v_.view(),
             gradient.slice(own.begin, {own.size()}), step);
  params_.refresh_own_vectors();
}

double gradient_norm(const ag::Tensor& gradient) {
  return std::sqrt(ag::kernels(gradient.device()).sum_squares(gradient));
}

double clip_scale(double norm, double clip_grad) {
  // Why 1e-6: the customary guard of clip_grad_norm_, kept so that clipped runs compare with
  // PyTorch's.
  return clip_grad > 0 && norm > clip_grad ? clip_grad / (norm + 1e-6) : 1.0;
}

std::string first_nonfinite_gradient(const ag::ParamStore& params, const ag::Tensor& gradient) {
  for (const ag::Param& p : params.all()) {
    if (!p.trainable) continue;
    if (ag::kernels(gradient.device()).count_nonfinite(gradient.slice(p.offset, p.shape)) > 0)
      return p.name;
  }
  return {};
}

}  // namespace trainer
