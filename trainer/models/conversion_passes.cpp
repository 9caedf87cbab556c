#include "trainer/models/conversion_passes.h"

#include <algorithm>
#include <iterator>

#include "autograd/core/pool.h"

namespace trainer {
namespace {

// Only the windows that the verdict is given on.
void keep_verdict_windows(std::vector<PassedWindow>& windows) {
  std::erase_if(windows, [](const PassedWindow& w) { return w.index >= kVerdictWindows; });
}

}  // namespace

SourcePass pass_source(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                       bool with_norms, bool with_loss) {
  SourcePass result;
  std::optional<model::Calibration> calibration;
  if (with_norms) calibration.emplace(weights.spec());
  const auto groups = window_groups(sets, weights.spec().config.hidden_size, kConversionBatch);
  StreamedPass pass(weights, sets, ag::DType::f32, "source", groups.size());
  LossSums sums(sets);
  for (const WindowGroup& group : groups) {
    std::vector<PassedWindow> windows =
        pass.run(group, calibration ? calibration->observer() : model::QueryKeyObserver{});
    if (with_loss) {
      model::Head head(weights, ag::DType::f32);
      sums.add(head, windows);
    }
    keep_verdict_windows(windows);
    std::ranges::move(windows, std::back_inserter(result.verdict));
  }
  pass.finish();
  ag::Pool::release_cached();
  if (calibration) result.norms = calibration->pair_norms();
  if (with_loss) result.loss = sums.mean();
  return result;
}

ConvertedPass pass_converted(model::WeightReader& source, const SourcePass& before,
                             model::WeightReader& converted,
                             const std::vector<WindowSource>& sets) {
  ConvertedPass result;
  const auto groups = window_groups(sets, converted.spec().config.hidden_size, kConversionBatch);
  StreamedPass pass(converted, sets, ag::DType::f32, "converted", groups.size());
  LossSums sums(sets);
  auto of_source = before.verdict.begin();
  for (const WindowGroup& group : groups) {
    std::vector<PassedWindow> windows = pass.run(group);
    model::Head head(converted, ag::DType::f32);
    if (before.loss) sums.add(head, windows);
    keep_verdict_windows(windows);
    if (windows.empty()) continue;
    const auto end = of_source + static_cast<std::ptrdiff_t>(windows.size());
    model::Head source_head(source, ag::DType::f32);
    add_agreement(result.agreement, source_head, {of_source, end}, head, windows);
    of_source = end;
  }
  pass.finish();
  if (before.loss) result.loss = sums.mean();
  return result;
}

}  // namespace trainer
