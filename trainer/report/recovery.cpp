#include "trainer/report/recovery.h"

#include <cmath>

#include "chart/xy_chart.h"

namespace trainer {

Curve recovery_of(const RunRecord& run) {
  const Curve* validation = run.find("val_loss");
  if (validation == nullptr || !run.conversion || validation->value.size() < 2) return {};
  const double before = validation->value.front();
  const double gap = before - run.conversion->source_validation;
  if (validation->step.front() != 0 || !(gap > 0)) return {};
  Curve closed = *validation;
  for (double& value : closed.value) value = 100 * (before - value) / gap;
  return closed;
}

Figure recovery_figure(const std::vector<RunRecord>& runs, int64_t pretraining_tokens) {
  const bool relative = pretraining_tokens > 0;
  const double scale = relative ? 1000.0 / static_cast<double>(pretraining_tokens) : 1;
  chart::XyChart drawing{
      .title = "Recovery",
      .x_label = relative ? "training tokens, per mille of pre-training" : "training tokens",
      .y_label = "% of the loss gap to the source closed",
      .series = {},
      .y_marks = {{100, "the source"}}};
  for (size_t i = 0; i < runs.size(); ++i) {
    Curve closed = recovery_of(runs[i]);
    if (closed.value.empty()) continue;
    for (double& tokens : closed.tokens) tokens *= scale;
    drawing.series.push_back({.name = runs[i].name,
                              .x = std::move(closed.tokens),
                              .y = std::move(closed.value),
                              .style = i,
                              .points = true});
  }
  if (drawing.series.empty()) return {};
  return {"recovery", draw(drawing),
          "Validation loss from the converted model's (0) to the unconverted source's (100)."};
}

}  // namespace trainer
