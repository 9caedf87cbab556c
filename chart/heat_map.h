// A grid of cells, stronger in colour for larger values.
#pragma once

#include <string>
#include <vector>

namespace chart {

struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> rows, columns;  // names; an empty one is not written
  std::vector<double> values;              // [rows, columns]; what is not finite stays empty
  bool numbers = true;                     // written into the cells, where there is room
};

// An <svg> element. The least value is the palest; if all are equal, all are strong. Requires:
// values.size() == rows.size() * columns.size().
std::string draw(const HeatMap& map);

}  // namespace chart
