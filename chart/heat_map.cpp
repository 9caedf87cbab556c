#include "chart/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "chart/axis.h"
#include "chart/svg.h"
#include "chart/text.h"

namespace chart {
namespace {

constexpr double kWidth = kDrawingWidth, kTop = 48, kRight = 16, kLetter = 7.2;
constexpr int kShades = 16;
constexpr double kPalest = 0.06, kDarkEnoughForPaper = 0.62;

struct Range {
  double low = 0, high = 0;
  bool empty = true;
};

bool can_show(double value) { return std::isfinite(value) && std::abs(value) <= kLargestDrawn; }

Range range_of(const std::vector<double>& values) {
  Range range;
  for (const double v : values) {
    if (!can_show(v)) continue;
    range.low = range.empty ? v : std::min(range.low, v);
    range.high = range.empty ? v : std::max(range.high, v);
    range.empty = false;
  }
  return range;
}

int shade_of(double value, const Range& range) {
  if (range.high <= range.low) return kShades;
  return static_cast<int>(std::lround(kShades * (value - range.low) / (range.high - range.low)));
}

double opacity_of(int shade) { return kPalest + (1 - kPalest) * shade / kShades; }

struct Grid {
  double left = 0, cell_width = 0, cell_height = 0;
};

Grid grid_of(const HeatMap& map) {
  size_t longest = 0;
  for (const std::string& row : map.rows) longest = std::max(longest, row.size());
  Grid grid;
  grid.left = std::clamp(16 + kLetter * static_cast<double>(longest), 40.0, 200.0);
  grid.cell_width =
      std::min(90.0, (kWidth - grid.left - kRight) /
                         static_cast<double>(std::max<size_t>(1, map.columns.size())));
  const double wanted = map.numbers ? 30 : 16;
  grid.cell_height =
      std::clamp(440 / static_cast<double>(std::max<size_t>(1, map.rows.size())), 2.0, wanted);
  return grid;
}

// Cells too thin for gaps between them: equal neighbours of a row are one piece of the path of
// their shade, so that a map of many thousand cells stays a small file.
std::string draw_cells(const HeatMap& map, const Grid& grid, const Range& range) {
  std::map<int, std::string> paths;
  const double gap = std::min(grid.cell_height, grid.cell_width) > 4 ? 1 : 0;
  const size_t columns = map.columns.size();
  for (size_t r = 0; r < map.rows.size(); ++r)
    for (size_t c = 0, next = 0; c < columns; c = next) {
      const double value = map.values[r * columns + c];
      const auto same = [&](double other) {
        return can_show(other) && shade_of(other, range) == shade_of(value, range);
      };
      next = c + 1;
      if (!can_show(value)) continue;
      const bool merge = gap == 0;
      while (merge && next < columns && same(map.values[r * columns + next])) ++next;
      paths[shade_of(value, range)] +=
          fmt::format("M{} {}h{}v{}h-{}z",
                      format_coordinate(grid.left + grid.cell_width * static_cast<double>(c)),
                      format_coordinate(kTop + grid.cell_height * static_cast<double>(r)),
                      format_coordinate(grid.cell_width * static_cast<double>(next - c) - gap),
                      format_coordinate(grid.cell_height - gap),
                      format_coordinate(grid.cell_width * static_cast<double>(next - c) - gap));
    }
  std::string out;
  for (const auto& [shade, path] : paths)
    out += fmt::format("<path d=\"{}\" class=\"heat\" fill-opacity=\"{:.3f}\"/>\n", path,
                       opacity_of(shade));
  return out;
}

// Decimals that show four digits of the largest; 0 if all are whole; -1: with an exponent.
int decimals_of(const std::vector<double>& values) {
  double largest = 0;
  bool whole = true;
  for (const double value : values) {
    if (!can_show(value)) continue;
    largest = std::max(largest, std::abs(value));
    whole = whole && value == std::round(value);
  }
  if (largest >= 1e6) return -1;
  if (whole) return 0;
  if (largest < 1e-3) return -1;
  return std::clamp(3 - static_cast<int>(std::floor(std::log10(largest))), 0, 6);
}

std::string format_cell(double value, int decimals) {
  return decimals < 0 ? fmt::format("{:.4g}", value) : fmt::format("{:.{}f}", value, decimals);
}

std::string draw_numbers(const HeatMap& map, const Grid& grid, const Range& range) {
  if (!map.numbers || grid.cell_width < 34 || grid.cell_height < 14) return {};
  const int decimals = decimals_of(map.values);
  std::string out;
  const size_t columns = map.columns.size();
  for (size_t i = 0; i < map.values.size(); ++i) {
    if (!can_show(map.values[i])) continue;
    const bool dark = opacity_of(shade_of(map.values[i], range)) > kDarkEnoughForPaper;
    out += svg_text(grid.left + grid.cell_width * (static_cast<double>(i % columns) + 0.5),
                    kTop + grid.cell_height * (static_cast<double>(i / columns) + 0.5) + 4,
                    format_cell(map.values[i], decimals), Anchor::middle,
                    dark ? "on-heat" : "off-heat");
  }
  return out;
}

// Every so many names that they do not overlap.
size_t name_stride(const std::vector<std::string>& names, double cell, double room) {
  size_t longest = 1;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  const double needed = room > 0 ? room : kLetter * static_cast<double>(longest) + 6;
  return static_cast<size_t>(std::max(1.0, std::ceil(needed / cell)));
}

std::string draw_names(const HeatMap& map, const Grid& grid, double bottom) {
  std::string out = svg_text(8, 20, map.title, Anchor::start, "title");
  out += svg_text(8, 37, map.y_label, Anchor::start);
  const size_t row_stride = name_stride(map.rows, grid.cell_height, 13);
  const size_t column_stride = name_stride(map.columns, grid.cell_width, 0);
  for (size_t r = 0; r < map.rows.size(); r += row_stride)
    out += svg_text(grid.left - 8, kTop + grid.cell_height * (static_cast<double>(r) + 0.5) + 4,
                    map.rows[r], Anchor::end);
  for (size_t c = 0; c < map.columns.size(); c += column_stride)
    out += svg_text(grid.left + grid.cell_width * (static_cast<double>(c) + 0.5), bottom + 16,
                    map.columns[c], Anchor::middle);
  const double width = grid.cell_width * static_cast<double>(map.columns.size());
  out += svg_text(grid.left + width / 2, bottom + 34, map.x_label, Anchor::middle);
  return out;
}

}  // namespace

std::string draw(const HeatMap& map) {
  const Grid grid = grid_of(map);
  const Range range = range_of(map.values);
  const double bottom = kTop + grid.cell_height * static_cast<double>(map.rows.size());
  std::string body =
      draw_names(map, grid, bottom) + draw_cells(map, grid, range) + draw_numbers(map, grid, range);
  const std::string scale =
      range.empty
          ? "no values recorded"
          : fmt::format("pale {} to strong {}", format_tick(range.low), format_tick(range.high));
  body += svg_text(kWidth - kRight, 37, scale, Anchor::end);
  return svg_document(bottom + 44, map.title, body);
}

}  // namespace chart
