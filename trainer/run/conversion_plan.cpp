#include "trainer/run/conversion_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"
#include "core/text.h"
#include "model/convert.h"
#include "trainer/models/model_comparison.h"
#include "trainer/models/model_folder.h"
#include "trainer/models/streamed_pass.h"
#include "trainer/step/activation_memory.h"
#include "trainer/step/memory.h"

namespace trainer {
namespace {

constexpr uint64_t kDoubleBytes = 8;  // of an f64

uint64_t unsign(int64_t n) { return static_cast<uint64_t>(n); }

// Elements of the widest layer, of the largest tensor, and of all tensors that multiply each token.
struct SpecSizes {
  uint64_t layer = 0, tensor = 0, multiplied = 0;
};

SpecSizes spec_sizes(const model::ModelSpec& spec) {
  std::vector<uint64_t> layers(spec.attention.size());
  SpecSizes sizes;
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    const uint64_t n = unsign(p.shape.numel());
    sizes.tensor = std::max(sizes.tensor, n);
    const int64_t layer = model::layer_of(p.path);
    if (layer >= 0) layers[static_cast<size_t>(layer)] += n;
  }
  sizes.layer = *std::ranges::max_element(layers);
  sizes.multiplied = std::accumulate(layers.begin(), layers.end(), uint64_t{0}) +
                     unsign(spec.config.vocab_size * spec.config.hidden_size);  // the output
  return sizes;
}

// The widest places of a layer: SwiGLU with what it comes from, and the attention.
uint64_t activation_bytes(const model::LlamaConfig& c, uint64_t tokens) {
  const uint64_t heads = unsign((c.num_attention_heads + c.num_key_value_heads) * c.head_dim);
  return kFloatBytes * tokens *
         (unsign(2 * c.hidden_size) + std::max(unsign(3 * c.intermediate_size), 3 * heads));
}

struct Factored {
  uint64_t rows, columns, latent;
};

std::vector<Factored> factored_matrices(const model::LlamaConfig& c,
                                        const model::AttentionSpec& layer) {
  const uint64_t d = unsign(c.hidden_size), latent = unsign(layer.latent_dims);
  const uint64_t nope = unsign(layer.nope_columns(c.head_dim));
  const uint64_t values = unsign(c.num_key_value_heads * c.head_dim);
  if (layer.method == model::LatentMethod::none) return {};
  if (layer.method == model::LatentMethod::joint) return {{nope + values, d, latent}};
  return {{nope, d, latent}, {values, d, latent}};
}

// X and a copy of it or the Gram matrix, the eigenvectors twice, the factors in float64 and, of the
// layer, in float32.
uint64_t factoring_bytes(const Factored& f) {
  const uint64_t k = std::min(f.rows, f.columns), x = f.rows * f.columns;
  const uint64_t factors = f.latent * (f.rows + f.columns);
  return kDoubleBytes * (x + std::max(x, k * k + 2 * f.latent * k + factors)) +
         kFloatBytes * (x + factors);
}

double gram_operations(const Factored& f) {
  const double k = static_cast<double>(std::min(f.rows, f.columns));
  const double n = static_cast<double>(std::max(f.rows, f.columns));
  const auto latent = static_cast<double>(f.latent);
  return k * k * n + 2 * n * k * latent;
}

double eigen_operations(const Factored& f) {
  const double k = static_cast<double>(std::min(f.rows, f.columns));
  return 4.0 / 3 * k * k * k + 2 * k * k * static_cast<double>(f.latent);
}

// Operations per second of a product of matrices of 1024 x 1024 in float32.
double measured_speed() {
  constexpr int64_t n = 1024;
  const ag::Tensor a = ag::Tensor::zeros({n, n}, ag::DType::f32);
  ag::Tensor out = ag::Tensor::zeros({n, n}, ag::DType::f32);
  const auto run = [&] { ag::kernels(a.device()).gemm(out.view(), a, false, a, true); };
  run();  // the first one starts threads
  const auto start = std::chrono::steady_clock::now();
  run();
  return 2.0 * n * n * n / core::seconds_since(start);
}

}  // namespace

uint64_t ConversionMemory::peak() const {
  return runtime + std::max({layer_pass, head_pass, factoring});
}

ConversionPlan plan_conversion(model::WeightReader& source, const model::ModelSpec& target,
                               const std::vector<WindowSource>& sets, int64_t batch) {
  const model::LlamaConfig& c = target.config;
  const SpecSizes before = spec_sizes(source.spec()), after = spec_sizes(target);
  const uint64_t d = unsign(c.hidden_size), v = unsign(c.vocab_size);
  ConversionPlan plan;
  uint64_t at_once = 0, group = 0, verdict = 0;
  for (const WindowGroup& g : window_groups(sets, c.hidden_size, batch)) {
    uint64_t of_group = 0;
    for (const WindowBatch& b : g) {
      const uint64_t length = unsign(sets[b.set].sequence_length);
      at_once = std::max(at_once, unsign(b.count) * length);
      of_group += unsign(b.count) * length;
      verdict += unsign(std::clamp<int64_t>(kVerdictWindows - b.first, 0, b.count)) * length;
    }
    group = std::max(group, of_group);
    plan.tokens += static_cast<int64_t>(of_group);
  }
  const uint64_t hidden = kFloatBytes * d * (group + verdict);
  const uint64_t loading = kFloatBytes * std::max(before.tensor, after.tensor);
  plan.memory = {.layer_pass = hidden + kFloatBytes * std::max(before.layer, after.layer) +
                               loading + activation_bytes(c, at_once),
                 .head_pass = hidden + 2 * kFloatBytes * v * d + loading +
                              4 * kFloatBytes * v * unsign(kLogitRows),
                 .factoring = kFloatBytes * d * verdict,
                 .runtime = kRuntimeBytes};
  // Floating-point operations in matrix products, and in eigenvalue problems.
  double products = 2.0 * static_cast<double>(plan.tokens) *
                    static_cast<double>(before.multiplied + after.multiplied);
  double eigen = 0;
  uint64_t factoring = 0;
  for (const model::AttentionSpec& layer : target.attention)
    for (const Factored& f : factored_matrices(c, layer)) {
      factoring = std::max(factoring, factoring_bytes(f));
      products += 2 * gram_operations(f);  // float64 takes twice the time
      eigen += eigen_operations(f);
    }
  plan.memory.factoring += factoring;
  // The tridiagonal reduction waits for memory: measured at a twentieth of the speed of products.
  constexpr double kEigenCost = 20;
  plan.seconds = (products + kEigenCost * eigen) / measured_speed();
  plan.source_bytes = stored_bytes(source);
  plan.disk_bytes = stored_bytes(model::ConvertedReader(source, target));
  return plan;
}

nlohmann::json to_json(const ConversionPlan& plan) {
  return {{"memory_bytes", plan.memory.peak()},
          {"layer_pass_bytes", plan.memory.layer_pass},
          {"head_pass_bytes", plan.memory.head_pass},
          {"factoring_bytes", plan.memory.factoring},
          {"source_bytes", plan.source_bytes},
          {"disk_bytes", plan.disk_bytes},
          {"tokens", plan.tokens},
          {"seconds", plan.seconds}};
}

std::string to_text(const ConversionPlan& plan) {
  return fmt::format(
      "needs about {} of memory, {} of disk and, beside reading {}, {} on this machine",
      core::format_bytes(plan.memory.peak()), core::format_bytes(plan.disk_bytes),
      core::format_bytes(plan.source_bytes), core::format_duration(plan.seconds));
}

}  // namespace trainer
