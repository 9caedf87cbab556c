#include "chart/xy_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "chart/axis.h"
#include "chart/svg.h"

namespace chart {
namespace {

constexpr double kWidth = kDrawingWidth, kPlotHeight = 230, kTop = 48, kLeft = 56, kRight = 16;
constexpr double kAxisHeight = 44, kLegendRow = 19, kLetter = 7.1;

// Long runs have more points than the drawing has columns: of each group of neighbours the first,
// least, largest and last are drawn, which is the same picture.
constexpr size_t kMostPoints = 2400;

struct Frame {
  Axis x, y;

  double px(double value) const { return kLeft + x.place(value) * (kWidth - kLeft - kRight); }
  double py(double value) const { return kTop + (1 - y.place(value)) * kPlotHeight; }
  bool shows(double x_value, double y_value) const {
    return x.can_show(x_value) && y.can_show(y_value);
  }
};

std::string point_class(size_t style) { return fmt::format("p{}", style % kColours); }

std::string line_classes(const Series& s) {
  // Each round of the colours begins with other dashes.
  return fmt::format(
      "curve s{} {}", s.style % kColours,
      s.faint ? "faint" : fmt::format("d{}", (s.style + s.style / kColours) % kDashes));
}

std::vector<size_t> drawn_indices(const Series& s, const Frame& frame) {
  std::vector<size_t> all(s.x.size());
  std::iota(all.begin(), all.end(), size_t{0});
  if (all.size() <= kMostPoints) return all;
  std::erase_if(all, [&](size_t i) { return !frame.shows(s.x[i], s.y[i]); });
  const size_t group = (all.size() + kMostPoints / 4 - 1) / (kMostPoints / 4);
  const auto less = [&](size_t a, size_t b) { return s.y[a] < s.y[b]; };
  std::vector<size_t> drawn;
  for (size_t begin = 0; begin < all.size(); begin += group) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + group));
    const auto [low, high] = std::minmax_element(first, end, less);
    for (const size_t i : {*first, std::min(*low, *high), std::max(*low, *high), *(end - 1)})
      if (drawn.empty() || i > drawn.back()) drawn.push_back(i);
  }
  return drawn;
}

std::string draw_axes(const XyChart& chart, const Frame& frame) {
  std::string out;
  const double bottom = kTop + kPlotHeight;
  for (const Tick& tick : frame.y.ticks) {
    const double y = frame.py(tick.value);
    out += svg_line(kLeft, y, kWidth - kRight, y, "grid");
    out += svg_text(kLeft - 8, y + 4, tick.label, Anchor::end);
  }
  for (const Tick& tick : frame.x.ticks) {
    const double x = frame.px(tick.value);
    out += svg_line(x, bottom, x, bottom + 4, "axis");
    out += svg_text(x, bottom + 18, tick.label, Anchor::middle);
  }
  out += svg_line(kLeft, bottom, kWidth - kRight, bottom, "axis");
  out += svg_text((kLeft + kWidth - kRight) / 2, bottom + 36, chart.x_label, Anchor::middle);
  out += svg_text(8, 20, chart.title, Anchor::start, "title");
  out += svg_text(8, 37, chart.y_label, Anchor::start);
  return out;
}

std::string draw_marks(const XyChart& chart, const Frame& frame) {
  std::string out;
  for (const Mark& mark : chart.x_marks) {
    if (!frame.x.can_show(mark.value)) continue;
    const double x = frame.px(mark.value);
    out += svg_line(x, kTop, x, kTop + kPlotHeight, "mark");
    out += svg_text(x + 5, kTop + 13, mark.label, Anchor::start);
  }
  for (const Mark& mark : chart.y_marks) {
    if (!frame.y.can_show(mark.value)) continue;
    const double y = frame.py(mark.value);
    out += svg_line(kLeft, y, kWidth - kRight, y, "mark");
    out += svg_text(kWidth - kRight - 4, y - 5, mark.label, Anchor::end);
  }
  return out;
}

std::string draw_line(const Series& s, const Frame& frame) {
  std::string path;
  bool pen_down = false;
  for (const size_t i : drawn_indices(s, frame)) {
    if (!frame.shows(s.x[i], s.y[i])) {
      pen_down = false;
      continue;
    }
    path += fmt::format("{}{} {}", pen_down ? "L" : "M", format_coordinate(frame.px(s.x[i])),
                        format_coordinate(frame.py(s.y[i])));
    pen_down = true;
  }
  if (path.empty()) return {};
  return fmt::format("<path d=\"{}\" class=\"{}\"/>\n", path, line_classes(s));
}

std::string draw_points(const Series& s, const Frame& frame) {
  std::string out;
  for (const size_t i : drawn_indices(s, frame)) {
    if (!frame.shows(s.x[i], s.y[i])) continue;
    const double x = frame.px(s.x[i]), y = frame.py(s.y[i]);
    out +=
        fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"/>\n", format_coordinate(x),
                    format_coordinate(y), s.line ? "3" : "4.5", point_class(s.style));
    if (i >= s.labels.size()) continue;
    const bool left = x > kWidth - 150;
    out += svg_text(left ? x - 8 : x + 8, y - 6, s.labels[i], left ? Anchor::end : Anchor::start);
  }
  return out;
}

std::string draw_series(const Series& s, const Frame& frame) {
  // A line needs two points; one alone must not vanish.
  return (s.line ? draw_line(s, frame) : std::string()) +
         (s.points || s.x.size() == 1 ? draw_points(s, frame) : std::string());
}

// Adds the legend below `y` and returns where it ends.
double draw_legend(const XyChart& chart, double y, std::string& out) {
  double x = kLeft;
  bool any = false;
  for (const Series& s : chart.series) {
    if (s.name.empty()) continue;
    const double width = 34 + kLetter * static_cast<double>(s.name.size()) + 18;
    if (any && x + width > kWidth - kRight) {
      x = kLeft;
      y += kLegendRow;
    }
    if (s.line)
      out += fmt::format("<path d=\"M{0} {1}h24\" class=\"{2}\"/>\n", format_coordinate(x),
                         format_coordinate(y + 8), line_classes(s));
    if (s.points || !s.line)
      out += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3.5\" class=\"{}\"/>\n",
                         format_coordinate(x + 12), format_coordinate(y + 8), point_class(s.style));
    out += svg_text(x + 30, y + 12, s.name, Anchor::start, "legend");
    x += width;
    any = true;
  }
  return any ? y + kLegendRow : y;
}

Frame frame_of(const XyChart& chart) {
  std::vector<double> xs, ys;
  for (const Series& s : chart.series) {
    xs.insert(xs.end(), s.x.begin(), s.x.end());
    ys.insert(ys.end(), s.y.begin(), s.y.end());
  }
  for (const Mark& mark : chart.x_marks) xs.push_back(mark.value);
  for (const Mark& mark : chart.y_marks) ys.push_back(mark.value);
  return {make_axis(xs, chart.log_x, 6), make_axis(ys, chart.log_y, 5)};
}

}  // namespace

std::string draw(const XyChart& chart) {
  const Frame frame = frame_of(chart);
  std::string body = draw_axes(chart, frame) + draw_marks(chart, frame);
  size_t shown = 0, all = 0;
  for (const bool faint : {true, false})
    for (const Series& s : chart.series)
      if (s.faint == faint) body += draw_series(s, frame);
  for (const Series& s : chart.series)
    for (size_t i = 0; i < s.x.size(); ++i, ++all) shown += frame.shows(s.x[i], s.y[i]) ? 1 : 0;
  double end = draw_legend(chart, kTop + kPlotHeight + kAxisHeight, body);
  if (all == 0 || shown < all) {
    const std::string note = all == 0
                                 ? "no values recorded"
                                 : fmt::format("{} of {} values cannot be shown", all - shown, all);
    body += svg_text(kLeft, end + 12, note, Anchor::start);
    end += kLegendRow;
  }
  return svg_document(end + 6, chart.title, body);
}

}  // namespace chart
