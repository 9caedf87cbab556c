#include "model/weights.h"

namespace model {

void check_weights(const ModelSpec& spec, const Weights& weights, const std::string& origin) {
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
    const auto it = weights.find(p.path);
    if (it == weights.end())
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .place = p.path,
                                      .field = "tensor",
                                      .expected = to_string(p.shape),
                                      .found = "nothing"});
    if (!(it->second.shape() == p.shape))
      core::fail(ExitCode::kBadData, {.path = origin,
                                      .place = p.path,
                                      .field = "shape",
                                      .expected = to_string(p.shape),
                                      .found = to_string(it->second.shape())});
    ++matched;
  }
  if (matched == weights.size()) return;
  for (const auto& [path, tensor] : weights) {
    bool known = false;
    for (const ParameterShape& p : wanted) known = known || p.path == path;
    if (!known)
      core::fail(ExitCode::kBadData,
                 {.path = origin,
                  .place = path,
                  .field = "tensor",
                  .expected = "only the model's parameters",
                  .found = "an unknown one of shape " + to_string(tensor.shape())});
  }
}

}  // namespace model
