#include "model/weights.h"

#include "autograd/kernels/kernels.h"

namespace model {

std::vector<double> to_double(const ag::Tensor& tensor) {
  ag::Tensor wide = ag::Tensor::empty(tensor.shape(), ag::DType::f64);
  ag::kernels(tensor.device()).cast(wide.view(), tensor);
  return wide.to_host<double>();
}

void check_shapes(const ModelSpec& spec, const std::map<std::string, ag::Shape>& shapes,
                  const std::string& origin) {
  using core::ExitCode;
  for (const AttentionSpec& layer : spec.attention)
    if (spec.config.qk_norm && layer.method != LatentMethod::none)
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .field = "attention",
                                      .expected = "no latent with QK-norm",
                                      .found = "a latent",
                                      .hint = "k is normalised whole, after its projection"});
  size_t matched = 0;
  const auto wanted = parameter_shapes(spec);
  for (const ParameterShape& p : wanted) {
    const auto it = shapes.find(p.path);
    if (it == shapes.end())
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .place = p.path,
                                      .field = "tensor",
                                      .expected = to_string(p.shape),
                                      .found = "nothing"});
    if (!(it->second == p.shape))
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .place = p.path,
                                      .field = "shape",
                                      .expected = to_string(p.shape),
                                      .found = to_string(it->second)});
    ++matched;
  }
  if (matched == shapes.size()) return;
  for (const auto& [path, shape] : shapes) {
    bool known = false;
    for (const ParameterShape& p : wanted) known = known || p.path == path;
    if (!known)
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .place = path,
                                      .field = "tensor",
                                      .expected = "only the model's parameters",
                                      .found = "an unknown one of shape " + to_string(shape)});
  }
}

void check_weights(const ModelSpec& spec, const Weights& weights, const std::string& origin) {
  std::map<std::string, ag::Shape> shapes;
  for (const auto& [path, tensor] : weights) shapes.emplace(path, tensor.shape());
  check_shapes(spec, shapes, origin);
}

}  // namespace model
