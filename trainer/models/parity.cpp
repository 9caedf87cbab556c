#include "trainer/models/parity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/text.h"
#include "trainer/models/streamed_pass.h"

namespace trainer {
namespace {

constexpr int64_t kCacheElementBytes = 2;  // bf16
// A float64 SVD of a few thousand columns is exact to about 1e-13 of the norm; a truncation that
// matters to a float32 model is above 1e-7 of it.
constexpr double kNothingLost = 1e-10;

double relative(const model::LayerReport& layer) {
  return layer.norm > 0 ? layer.error / layer.norm : 0;
}

double change_percent(const BeforeAfter<int64_t>& x) {
  return 100 * (static_cast<double>(x.after) / static_cast<double>(x.before) - 1);
}

bool keeps_all_pairs(const model::ModelSpec& spec) {
  for (const model::AttentionSpec& layer : spec.attention)
    for (const auto& kept : layer.kept_pairs)
      if (static_cast<int64_t>(kept.size()) != spec.config.pairs()) return false;
  return true;
}

nlohmann::json to_json(const BeforeAfter<int64_t>& x) {
  return {{"before", x.before}, {"after", x.after}, {"change_percent", change_percent(x)}};
}

constexpr size_t kMostSingularValues = 128;  // of a matrix: enough to draw them

// Six digits of singular values spread evenly over the spectrum, from the first to the last.
nlohmann::json to_json(const model::Spectrum& spectrum) {
  nlohmann::json index = nlohmann::json::array(), values = nlohmann::json::array();
  const size_t all = spectrum.sigma.size(), shown = std::min(all, kMostSingularValues);
  for (size_t i = 0; i < shown; ++i) {
    const size_t at = shown == all ? i : i * (all - 1) / (shown - 1);
    index.push_back(at + 1);
    values.push_back(std::stod(fmt::format("{:.6g}", spectrum.sigma[at])));
  }
  return {{"matrix", spectrum.matrix},
          {"kept", spectrum.kept},
          {"index", std::move(index)},
          {"singular_values", std::move(values)}};
}

nlohmann::json to_json(const std::vector<model::Spectrum>& spectra) {
  nlohmann::json all = nlohmann::json::array();
  for (const model::Spectrum& spectrum : spectra) all.push_back(to_json(spectrum));
  return all;
}

std::string verdict(const ParityReport& report) {
  if (report.is_exact()) return "full rank and full RoPE: the same function as the source";
  if (report.truncates_nothing()) return "nothing truncated: only the dropped rotations differ";
  return {};
}

}  // namespace

bool ParityReport::truncates_nothing() const {
  return std::all_of(layers.begin(), layers.end(), [](const model::LayerReport& layer) {
    return layer.error <= kNothingLost * layer.norm;
  });
}

ParityReport compare_specs(const model::ModelSpec& source, const model::ModelSpec& target,
                           const std::vector<model::LayerReport>& layers) {
  ParityReport report;
  report.cache_bytes_per_token = {kCacheElementBytes * source.cache_elements_per_token(),
                                  kCacheElementBytes * target.cache_elements_per_token()};
  report.parameters = {source.parameter_count(), target.parameter_count()};
  report.layers = layers;
  report.all_pairs_kept = keeps_all_pairs(target);
  return report;
}

SetResult loss_of(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                  int64_t batch, const std::string& title) {
  const auto groups = window_groups(sets, weights.spec().config.hidden_size, batch);
  StreamedPass pass(weights, sets, ag::DType::f32, title, groups.size());
  LossSums sums(sets);
  for (const WindowGroup& group : groups) {
    const std::vector<PassedWindow> windows = pass.run(group);
    model::Head head(weights, ag::DType::f32);
    sums.add(head, windows);
  }
  pass.finish();
  return sums.mean();
}

nlohmann::json to_json(const ParityReport& report) {
  nlohmann::json layers = nlohmann::json::array();
  for (const model::LayerReport& layer : report.layers)
    layers.push_back({{"reconstruction_error", layer.error},
                      {"norm", layer.norm},
                      {"relative_error", relative(layer)},
                      {"spectra", to_json(layer.spectra)}});
  nlohmann::json json = {{"loss_before", nullptr},
                         {"loss_after", nullptr},
                         {"cache_bytes_per_token", to_json(report.cache_bytes_per_token)},
                         {"parameters", to_json(report.parameters)},
                         {"layers", std::move(layers)},
                         {"truncates_nothing", report.truncates_nothing()},
                         {"exact", report.is_exact()},
                         {"not_needed", report.not_needed}};
  if (report.loss) {
    json["loss_before"] = report.loss->before.nll;
    json["loss_after"] = report.loss->after.nll;
    json["loss_tokens"] = report.loss->before.tokens;
    json["loss_protocol"] = report.loss->before.protocol;
  }
  return json;
}

std::string to_text(const ParityReport& report) {
  const auto row = [](const std::string& name, const std::string& before, const std::string& after,
                      const std::string& change) {
    return fmt::format("{:<28}{:>14}{:>14}{:>12}\n", name, before, after, change);
  };
  const auto counts = [&](const std::string& name, const BeforeAfter<int64_t>& x) {
    return row(name, std::to_string(x.before), std::to_string(x.after),
               fmt::format("{:+.2f} %", change_percent(x)));
  };
  std::string text = row("", "before", "after", "change");
  if (report.loss) {
    const double before = report.loss->before.nll, after = report.loss->after.nll;
    text += row("loss [nats/token]", fmt::format("{:.4f}", before), fmt::format("{:.4f}", after),
                fmt::format("{:+.4f}", after - before));
  } else {
    text += row("loss [nats/token]", "-", "-", "no ids");
  }
  text += counts("cache [bytes/token, bf16]", report.cache_bytes_per_token);
  text += counts("parameters", report.parameters);
  for (size_t l = 0; l < report.layers.size(); ++l)
    if (report.layers[l].norm > 0)
      text += fmt::format("layer {:<3} ||[K, V] - down up|| = {:.4g}, {:.3f} % of its norm\n", l,
                          report.layers[l].error, 100 * relative(report.layers[l]));
  if (!verdict(report).empty()) text += verdict(report) + "\n";
  for (const std::string& option : report.not_needed) text += "not needed: " + option + "\n";
  if (report.loss)
    text += fmt::format("loss over {} tokens: {}\n", report.loss->before.tokens,
                        report.loss->before.protocol);
  text.pop_back();
  return text;
}

}  // namespace trainer
