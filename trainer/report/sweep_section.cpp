#include "trainer/report/sweep_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "chart/heat_map.h"
#include "chart/xy_chart.h"

namespace trainer {
namespace {

// The sweep names its strategies and ranks itself; more are too many to tell apart.
constexpr size_t kMostStrategies = 64, kMostRanks = 512;

// Names, numbered in the order in which they come.
class NumberedNames {
 public:
  size_t number_of(const std::string& name) {
    const auto [found, is_new] = numbers_.try_emplace(name, names_.size());
    if (is_new) names_.push_back(name);
    return found->second;
  }
  const std::vector<std::string>& all() const { return names_; }

 private:
  std::vector<std::string> names_;
  std::map<std::string, size_t> numbers_;
};

std::string group_of(const TrialRecord& trial) {
  if (trial.baseline) return "unconverted";
  return trial.strategy.empty() ? "unknown" : trial.strategy;
}

// "r4 c16 joint": pairs per head, latent dimensions per kv head, how.
std::string rank_of(const TrialRecord& trial) {
  std::string name;
  if (std::isfinite(trial.pairs_per_head)) name += fmt::format("r{:.0f} ", trial.pairs_per_head);
  if (trial.method != "none" && std::isfinite(trial.latent_dims_per_kv_head))
    name += fmt::format("c{:.0f} ", trial.latent_dims_per_kv_head);
  return name + trial.method;
}

// None if the groups are too many.
std::optional<Figure> pareto_figure(const SweepRecord& sweep) {
  chart::XyChart drawing{.title = "Cache against perplexity",
                         .x_label = "cache [bytes per token]",
                         .y_label = "validation perplexity after training",
                         .series = {},
                         .log_x = true,
                         .log_y = true};
  NumberedNames groups;
  std::vector<double> cache, perplexity;
  for (const TrialRecord& trial : sweep.trials) {
    if (!std::isfinite(trial.after)) continue;  // not trained yet
    cache.push_back(trial.cache_after);
    perplexity.push_back(std::exp(trial.after));
    const std::string name = group_of(trial);
    const size_t group = groups.number_of(name);
    if (group == kMostStrategies) return std::nullopt;
    if (group == drawing.series.size())
      drawing.series.push_back(
          {.name = name, .x = {}, .y = {}, .style = group, .line = false, .points = true});
    drawing.series[group].x.push_back(cache.back());
    drawing.series[group].y.push_back(perplexity.back());
  }
  chart::Series front{
      .name = "Pareto front", .x = {}, .y = {}, .style = groups.all().size(), .faint = true};
  for (const size_t i : pareto_front(cache, perplexity)) {
    front.x.push_back(cache[i]);
    front.y.push_back(perplexity[i]);
  }
  drawing.series.push_back(std::move(front));
  return Figure{"cache_perplexity", draw(drawing),
                "Left and low is better. The line joins the trials that no other beats in both."};
}

// The least loss of the trials of a cell: other axes, such as the learning rate, are chosen well.
// None if the strategies or the ranks are too many.
std::optional<Figure> strategy_rank_figure(const SweepRecord& sweep) {
  chart::HeatMap map{.title = "Strategy and rank",
                     .x_label = "RoPE strategy",
                     .y_label = "r pairs/head, c latent dims/kv head",
                     .rows = {},
                     .columns = {},
                     .values = {}};
  NumberedNames ranks, strategies;
  std::map<std::pair<size_t, size_t>, double> least;
  for (const TrialRecord& trial : sweep.trials) {
    if (trial.baseline) continue;
    const size_t row = ranks.number_of(rank_of(trial));
    const size_t column = strategies.number_of(group_of(trial));
    if (row == kMostRanks || column == kMostStrategies) return std::nullopt;
    double& cell =
        least.try_emplace({row, column}, std::numeric_limits<double>::quiet_NaN()).first->second;
    cell = std::fmin(cell, trial.after);
  }
  map.rows = ranks.all();
  map.columns = strategies.all();
  map.values.assign(map.rows.size() * map.columns.size(), std::numeric_limits<double>::quiet_NaN());
  for (const auto& [place, value] : least)
    map.values[place.first * map.columns.size() + place.second] = value;
  return Figure{
      "strategy_rank", draw(map),
      "Validation loss after training: pale is better. Of several trials in a cell, the best."};
}

double closed_percent(const TrialRecord& trial) {
  return 100 * (trial.before - trial.after) / (trial.before - trial.source_loss);
}

NamedTable trial_table(const SweepRecord& sweep) {
  chart::Table table{.title = "Trials",
                     .columns = {"trial", "state", "RoPE", "pairs/head", "latent", "dims/kv head",
                                 "B/token", "cache [%]", "loss converted", "loss trained",
                                 "perplexity", "gap closed [%]", "tokens", "seconds", "message"},
                     .rows = {}};
  const auto fixed = [](double value, int digits) {
    return chart::number_cell(value, fmt::format("{:.{}f}", value, digits));
  };
  const auto text = [](const std::string& value) {
    return chart::text_cell(value.empty() ? "-" : value);
  };
  for (const TrialRecord& trial : sweep.trials)
    table.rows.push_back(
        {text(trial.id), text(trial.state), text(group_of(trial)),
         chart::number_cell(trial.pairs_per_head), text(trial.method),
         chart::number_cell(trial.latent_dims_per_kv_head), fixed(trial.cache_after, 0),
         fixed(100 * trial.cache_after / trial.cache_before, 2), fixed(trial.before, 4),
         fixed(trial.after, 4), chart::number_cell(std::exp(trial.after)),
         fixed(closed_percent(trial), 1), fixed(trial.tokens, 0), fixed(trial.seconds, 0),
         text(trial.message)});
  return {"trials", table};
}

}  // namespace

std::vector<size_t> pareto_front(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<size_t> order;
  for (size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(x[i]) && std::isfinite(y[i])) order.push_back(i);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return std::tie(x[a], y[a], a) < std::tie(x[b], y[b], b); });
  std::vector<size_t> front;
  for (const size_t i : order)
    if (front.empty() || y[i] < y[front.back()]) front.push_back(i);
  return front;
}

ReportSection sweep_section(const SweepRecord& sweep) {
  ReportSection section{
      .title = "Sweep " + sweep.name, .paragraphs = {}, .figures = {}, .tables = {}};
  const auto done = std::count_if(sweep.trials.begin(), sweep.trials.end(),
                                  [](const TrialRecord& trial) { return trial.state == "done"; });
  section.paragraphs.push_back(fmt::format("{} of {} trials are done.", done, sweep.trials.size()));
  section.paragraphs.insert(section.paragraphs.end(), sweep.notes.begin(), sweep.notes.end());
  const std::optional<Figure> drawn[] = {pareto_figure(sweep), strategy_rank_figure(sweep)};
  for (const std::optional<Figure>& figure : drawn)
    if (figure) section.figures.push_back(*figure);
  if (!drawn[0] || !drawn[1])
    section.paragraphs.push_back(fmt::format(
        "Figures of more than {} strategies or {} ranks are left out: the table has all "
        "trials.",
        kMostStrategies, kMostRanks));
  section.tables.push_back(trial_table(sweep));
  return section;
}

}  // namespace trainer
