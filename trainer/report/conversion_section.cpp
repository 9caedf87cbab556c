#include "trainer/report/conversion_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "chart/heat_map.h"
#include "chart/xy_chart.h"
#include "trainer/report/recovery.h"

namespace trainer {
namespace {

constexpr int64_t kMostHeadRows = 512;   // more are too thin to see
constexpr int64_t kMostCells = 1 << 17;  // of a map; a model has a tenth of it
constexpr size_t kMostSpectra = 8;       // curves that can be told apart
constexpr size_t kMostDrawn = 12;        // conversions with figures of their own

std::vector<std::string> numbered(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

// [layers, pairs]: how many of a layer's kv heads keep the pair, in percent.
Figure kept_by_layer(const RunRecord& run, size_t number) {
  const ConversionRecord& c = *run.conversion;
  chart::HeatMap map{.title = run.name,
                     .x_label = "frequency pair, 0 turns fastest",
                     .y_label = "kept pairs: layer, % of its kv heads",
                     .rows = numbered(c.layers),
                     .columns = numbered(c.pairs),
                     .values = std::vector<double>(static_cast<size_t>(c.layers * c.pairs)),
                     .numbers = false};
  for (int64_t l = 0; l < c.layers; ++l)
    for (int64_t h = 0; h < c.kv_heads; ++h)
      for (int64_t p = 0; p < c.pairs; ++p)
        map.values[static_cast<size_t>(l * c.pairs + p)] +=
            100.0 * c.kept_pairs[static_cast<size_t>((l * c.kv_heads + h) * c.pairs + p)] /
            static_cast<double>(c.kv_heads);
  return {fmt::format("kept_pairs_by_layer_{}", number), draw(map),
          "The stronger, the more heads of the layer keep the rotation of the pair."};
}

// [layers x kv heads, pairs]: kept or not.
Figure kept_by_head(const RunRecord& run, size_t number) {
  const ConversionRecord& c = *run.conversion;
  chart::HeatMap map{.title = run.name,
                     .x_label = "frequency pair, 0 turns fastest",
                     .y_label = "kept pairs: layer.head",
                     .rows = {},
                     .columns = numbered(c.pairs),
                     .values = {},
                     .numbers = false};
  for (int64_t l = 0; l < c.layers; ++l)
    for (int64_t h = 0; h < c.kv_heads; ++h) map.rows.push_back(fmt::format("{}.{}", l, h));
  map.values.assign(c.kept_pairs.begin(), c.kept_pairs.end());
  return {fmt::format("kept_pairs_by_head_{}", number), draw(map),
          "Strong: the pair keeps its rotation in this kv head."};
}

Figure error_figure(const std::vector<RunRecord>& runs) {
  chart::XyChart drawing{.title = "Reconstruction error",
                         .x_label = "layer",
                         .y_label = "% of the norm of what is factored",
                         .series = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    chart::Series s{.name = runs[i].name, .x = {}, .y = {}, .style = i, .points = true};
    for (const double error : runs[i].conversion->relative_error) {
      s.x.push_back(static_cast<double>(s.x.size()));
      s.y.push_back(100 * error);
    }
    if (!s.x.empty()) drawing.series.push_back(std::move(s));
  }
  return {"reconstruction_error", draw(drawing),
          "Frobenius norm of [K_nope, V] less its truncated factors, layer by layer."};
}

// Layers spread over the model, so that the curves can be told apart.
Figure spectrum_figure(const RunRecord& run, size_t number) {
  const std::vector<SpectrumRecord>& all = run.conversion->spectra;
  chart::XyChart drawing{.title = run.name,
                         .x_label = "index",
                         .y_label = "singular values of what is factored",
                         .series = {},
                         .log_y = true};
  const size_t shown = std::min(all.size(), kMostSpectra);
  for (size_t i = 0; i < shown; ++i) {
    const SpectrumRecord& s = all[shown == 1 ? 0 : i * (all.size() - 1) / (shown - 1)];
    drawing.series.push_back({.name = fmt::format("layer {} {}", s.layer, s.matrix),
                              .x = s.index,
                              .y = s.value,
                              .style = i});
  }
  const double kept = all.front().kept;
  drawing.x_marks.push_back({kept, fmt::format("cut: {:.0f} kept", kept)});
  return {fmt::format("singular_values_{}", number), draw(drawing),
          "Right of the cut is what the latent leaves out."};
}

NamedTable summary_table(const std::vector<RunRecord>& runs) {
  chart::Table table{
      .title = "Conversions",
      .columns = {"run", "RoPE", "pairs/head", "latent", "dims/kv head", "cache before [B/token]",
                  "cache after [B/token]", "saved [%]", "parameters after", "loss before",
                  "loss after", "perplexity before", "perplexity after", "after training"},
      .rows = {}};
  for (const RunRecord& run : runs) {
    const ConversionRecord& c = *run.conversion;
    const double saved = 100 * (1 - c.cache_after / c.cache_before);
    table.rows.push_back(
        {chart::text_cell(run.name), chart::text_cell(c.strategy.empty() ? "-" : c.strategy),
         chart::number_cell(c.pairs_per_head), chart::text_cell(c.method.empty() ? "-" : c.method),
         chart::number_cell(c.latent_dims_per_kv_head), chart::number_cell(c.cache_before),
         chart::number_cell(c.cache_after), chart::number_cell(saved, fmt::format("{:.2f}", saved)),
         chart::number_cell(c.parameters_after, fmt::format("{:.0f}", c.parameters_after)),
         loss_cell(c.loss_before), loss_cell(c.loss_after),
         chart::number_cell(std::exp(c.loss_before)), chart::number_cell(std::exp(c.loss_after)),
         loss_cell(run.last("val_loss"))});
  }
  return {"conversions", table};
}

NamedTable error_table(const std::vector<RunRecord>& runs) {
  chart::Table table{.title = "Reconstruction error by layer",
                     .columns = {"run", "layer", "error [% of the norm]"},
                     .rows = {}};
  for (const RunRecord& run : runs)
    for (size_t l = 0; l < run.conversion->relative_error.size(); ++l) {
      const double percent = 100 * run.conversion->relative_error[l];
      table.rows.push_back({chart::text_cell(run.name), chart::number_cell(static_cast<double>(l)),
                            chart::number_cell(percent, fmt::format("{:.3f}", percent))});
    }
  return {"reconstruction_error", table};
}

void add_own_figures(const RunRecord& run, size_t number, ReportSection& section) {
  const ConversionRecord& c = *run.conversion;
  if (!c.spectra.empty()) section.figures.push_back(spectrum_figure(run, number));
  if (c.kept_pairs.empty()) return;
  if (c.layers * c.pairs > kMostCells) {
    section.paragraphs.push_back(fmt::format(
        "{}: {} pairs in each of {} layers are too many to draw.", run.name, c.pairs, c.layers));
    return;
  }
  section.figures.push_back(kept_by_layer(run, number));
  const int64_t head_rows = c.layers * c.kv_heads;
  if (c.kv_heads > 1 && head_rows <= kMostHeadRows && head_rows * c.pairs <= kMostCells)
    section.figures.push_back(kept_by_head(run, number));
}

// One sentence for all runs of which it is true.
std::vector<std::string> remarks(const std::vector<RunRecord>& runs) {
  std::map<std::string, std::vector<std::string>> names;
  for (const RunRecord& run : runs) {
    const ConversionRecord& c = *run.conversion;
    if (!c.protocol.empty()) names["loss before and after over " + c.protocol].push_back(run.name);
    if (c.spectra.empty() && c.method != "none")
      names["no singular values in the folder, which an earlier version made"].push_back(run.name);
  }
  std::vector<std::string> sentences;
  for (const auto& [remark, of] : names)
    sentences.push_back(fmt::format("{}: {}.",
                                    of.size() == runs.size() && runs.size() > 1
                                        ? "all runs"
                                        : fmt::format("{}", fmt::join(of, ", ")),
                                    remark));
  return sentences;
}

}  // namespace

ReportSection conversion_section(const std::vector<RunRecord>& runs, int64_t pretraining_tokens) {
  ReportSection section{
      .title = "Conversion", .paragraphs = remarks(runs), .figures = {}, .tables = {}};
  const bool any_error = std::any_of(runs.begin(), runs.end(), [](const RunRecord& run) {
    return !run.conversion->relative_error.empty();
  });
  if (any_error) section.figures.push_back(error_figure(runs));
  if (const Figure recovery = recovery_figure(runs, pretraining_tokens); !recovery.file.empty())
    section.figures.push_back(recovery);
  for (size_t i = 0; i < std::min(runs.size(), kMostDrawn); ++i)
    add_own_figures(runs[i], i + 1, section);
  if (runs.size() > kMostDrawn)
    section.paragraphs.push_back(
        fmt::format("Kept pairs and singular values of the first {} of {} conversions.", kMostDrawn,
                    runs.size()));
  section.tables.push_back(summary_table(runs));
  if (any_error) section.tables.push_back(error_table(runs));
  return section;
}

}  // namespace trainer
