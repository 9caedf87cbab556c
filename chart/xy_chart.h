// Curves and points in a frame with two axes: loss over steps, cache against perplexity.
#pragma once

#include <string>
#include <vector>

namespace chart {

struct Series {
  std::string name;  // in the legend; empty: not there
  std::vector<double> x, y;
  size_t style = 0;                      // colour and dashes; several series may share one
  bool line = true;                      // points are joined where neighbours can be shown
  bool points = false;                   // each point has a mark
  bool faint = false;                    // behind the others
  std::vector<std::string> labels = {};  // of the points; empty: none
};

// A value worth a dotted line across the frame.
struct Mark {
  double value = 0;
  std::string label;
};

struct XyChart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false, log_y = false;
  std::vector<Mark> x_marks = {}, y_marks = {};
};

// An <svg> element. What the axes cannot show is left out, and said.
// Requires: x and y of a series are equally long.
std::string draw(const XyChart& chart);

}  // namespace chart
