#include "model/dense.h"

#include <fmt/format.h>

#include <vector>

#include "core/error.h"

namespace model {
namespace {

// up [n, C] times down [C, d].
ag::Tensor product(const ag::Tensor& up, const ag::Tensor& down) {
  const std::vector<double> a = to_double(up), b = to_double(down);
  const auto rows = static_cast<size_t>(up.shape()[0]), latent = static_cast<size_t>(up.shape()[1]),
             columns = static_cast<size_t>(down.shape()[1]);
  std::vector<float> result;
  std::vector<double> sum(columns);
  for (size_t i = 0; i < rows; ++i) {
    sum.assign(columns, 0.0);
    for (size_t k = 0; k < latent; ++k)
      for (size_t j = 0; j < columns; ++j) sum[j] += a[i * latent + k] * b[k * columns + j];
    for (const double value : sum) result.push_back(static_cast<float>(value));
  }
  return ag::Tensor::from_host<float>({up.shape()[0], down.shape()[1]}, result);
}

void require_full_rope(const ModelSpec& spec, const std::string& origin) {
  for (size_t l = 0; l < spec.attention.size(); ++l)
    for (const auto& kept : spec.attention[l].kept_pairs)
      if (static_cast<int64_t>(kept.size()) != spec.config.pairs())
        core::fail(core::ExitCode::kBadConfig,
                   {.path = origin,
                    .place = fmt::format("layer {}", l),
                    .field = "rotary pairs",
                    .expected = fmt::format("all {} of each head", spec.config.pairs()),
                    .found = std::to_string(kept.size()),
                    .hint = "a plain Llama rotates every pair; use --format hf"});
}

}  // namespace

Model expand_to_dense(const Model& model, const std::string& origin) {
  require_full_rope(model.spec, origin);
  Model dense{.spec = ModelSpec::unconverted(model.spec.config), .weights = model.weights};
  for (size_t l = 0; l < model.spec.attention.size(); ++l) {
    const LatentMethod method = model.spec.attention[l].method;
    if (method == LatentMethod::none) continue;
    const std::string prefix = layer_prefix(static_cast<int64_t>(l)) + "attn.";
    const auto move = [&](const char* from, const char* to) {
      auto node = dense.weights.extract(prefix + from);
      if (node.empty()) return;
      node.key() = prefix + to;
      dense.weights.insert(std::move(node));
    };
    const std::string down =
        prefix + (method == LatentMethod::joint ? "kv_down.weight" : "v_down.weight");
    dense.weights.emplace(prefix + "v.weight", product(dense.weights.at(prefix + "v_up.weight"),
                                                       dense.weights.at(down)));
    dense.weights.erase(prefix + "v_up.weight");
    dense.weights.erase(down);
    move("v_up.bias", "v.bias");
    move("k_rope.weight", "k.weight");
    move("k_rope.bias", "k.bias");
  }
  check_weights(dense.spec, dense.weights, origin);
  return dense;
}

}  // namespace model
