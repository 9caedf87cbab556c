#include "trainer/report/training_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "chart/text.h"
#include "chart/xy_chart.h"
#include "core/text.h"
#include "trainer/files/lenient_json.h"

namespace trainer {
namespace {

constexpr size_t kFewPoints = 10;   // too few to need smoothing
constexpr size_t kMostMarked = 40;  // points of a curve, each with its mark

// A value that would drown all others in a sum is an error of the file.
bool can_average(double value) { return std::isfinite(value) && std::abs(value) < 1e12; }

struct Quantity {
  const char* curve;
  const char* file;
  const char* title;
  const char* unit;
  const char* caption;
  bool smoothed = false;
  double scale = 1;
};

constexpr Quantity kQuantities[] = {
    {"loss", "loss", "Training loss", "nats per token", "Pale: as logged. Strong: smoothed.", true},
    {"val_loss", "validation", "Validation loss", "nats per token, mean of the sets",
     "Before the first step: the model that the run starts from."},
    {"lr", "learning_rate", "Learning rate", "", "As the schedule gave it."},
    {"grad_norm", "gradient_norm", "Gradient norm", "before clipping",
     "Pale: as logged. Strong: smoothed.", true},
    {"tokens_per_s", "throughput", "Throughput", "tokens per second, all ranks",
     "Mean between two lines of the log; validation and checkpoints do not count."},
    {"rss_bytes", "memory", "Memory", "GiB, largest resident set of rank 0", "", false,
     1.0 / (1 << 30)},
};

void add_series(const RunRecord& run, const Quantity& quantity, size_t style,
                chart::XyChart& drawing) {
  const Curve* curve = run.find(quantity.curve);
  if (curve == nullptr) return;
  chart::Series series{.name = run.name, .x = curve->step, .y = curve->value, .style = style};
  for (double& y : series.y) y *= quantity.scale;
  series.points = std::string_view(quantity.curve) == "val_loss" && series.x.size() <= kMostMarked;
  if (quantity.smoothed && series.x.size() >= kFewPoints) {
    chart::Series raw = series;
    raw.name.clear();
    raw.faint = true;
    drawing.series.push_back(std::move(raw));
    series.y = smooth(series.y, std::max<size_t>(1, series.y.size() / 40));
  }
  drawing.series.push_back(std::move(series));
}

void add_figure(const std::vector<RunRecord>& runs, const Quantity& quantity,
                ReportSection& section) {
  chart::XyChart drawing{
      .title = quantity.title, .x_label = "step", .y_label = quantity.unit, .series = {}};
  for (size_t i = 0; i < runs.size(); ++i) add_series(runs[i], quantity, i, drawing);
  if (!drawing.series.empty())
    section.figures.push_back({quantity.file, draw(drawing), quantity.caption});
}

chart::Cell cache_cell(const RunRecord& run, const char* when) {
  double bytes = number_at(run.result, {"cache_bytes_per_token", when});
  if (!std::isfinite(bytes) && run.conversion)
    bytes = std::string_view(when) == "before" ? run.conversion->cache_before
                                               : run.conversion->cache_after;
  return chart::number_cell(bytes);
}

chart::Cell whole_cell(double value) {
  return chart::number_cell(value, fmt::format("{:.0f}", value));
}

NamedTable run_table(const std::vector<RunRecord>& runs) {
  chart::Table table{
      .title = "Runs",
      .columns = {"run", "state", "steps", "tokens", "last loss", "first val", "last val",
                  "best val", "tokens/s", "seconds", "ranks", "B/token before", "B/token after"},
      .rows = {}};
  for (const RunRecord& run : runs) {
    const Curve* validation = run.find("val_loss");
    table.rows.push_back(
        {chart::text_cell(run.name), chart::text_cell(run.state.empty() ? "-" : run.state),
         whole_cell(run.last_step()), whole_cell(run.tokens()), loss_cell(run.last("loss")),
         loss_cell(validation == nullptr ? ConversionRecord::kUnknown : validation->value.front()),
         loss_cell(run.last("val_loss")), loss_cell(run.least("val_loss")),
         whole_cell(number_at(run.result, {"tokens_per_second"})),
         whole_cell(number_at(run.result, {"seconds"})),
         whole_cell(number_at(run.result, {"ranks"})), cache_cell(run, "before"),
         cache_cell(run, "after")});
  }
  return {"runs", table};
}

NamedTable validation_table(const std::vector<RunRecord>& runs) {
  chart::Table table{.title = "Validation by set",
                     .columns = {"run", "set", "loss, first", "loss, last", "perplexity, first",
                                 "perplexity, last"},
                     .rows = {}};
  constexpr std::string_view kPrefix = "val_loss/";
  for (const RunRecord& run : runs)
    for (const auto& [name, curve] : run.curves) {
      if (!name.starts_with(kPrefix)) continue;
      const double first = curve.value.front(), last = curve.value.back();
      table.rows.push_back({chart::text_cell(run.name),
                            chart::text_cell(name.substr(kPrefix.size())), loss_cell(first),
                            loss_cell(last), chart::number_cell(std::exp(first)),
                            chart::number_cell(std::exp(last))});
    }
  return {"validation_by_set", table};
}

}  // namespace

std::vector<double> smooth(const std::vector<double>& values, size_t reach) {
  std::vector<double> means;
  double sum = 0;
  size_t count = 0, begin = 0, end = 0;  // of the window [begin, end)
  for (size_t i = 0; i < values.size(); ++i) {
    for (; end < std::min(values.size(), i + reach + 1); ++end)
      if (can_average(values[end])) {
        sum += values[end];
        ++count;
      }
    for (; begin + reach < i; ++begin)
      if (can_average(values[begin])) {
        sum -= values[begin];
        --count;
      }
    means.push_back(count > 0 ? sum / static_cast<double>(count) : values[i]);
  }
  return means;
}

ReportSection training_section(const std::vector<RunRecord>& runs) {
  ReportSection section{.title = "Training", .paragraphs = {}, .figures = {}, .tables = {}};
  for (const RunRecord& run : runs) {
    if (!run.message.empty())
      section.paragraphs.push_back(fmt::format("{} ended: {}", run.name, run.message));
    for (const std::string& note : run.notes)
      section.paragraphs.push_back(fmt::format("{}: {}", run.name, note));
  }
  for (const Quantity& quantity : kQuantities) add_figure(runs, quantity, section);
  section.tables.push_back(run_table(runs));
  NamedTable by_set = validation_table(runs);
  if (!by_set.table.rows.empty()) section.tables.push_back(std::move(by_set));
  return section;
}

}  // namespace trainer
