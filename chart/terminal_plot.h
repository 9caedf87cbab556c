// A curve as lines of text for a terminal.
#pragma once

#include <string>
#include <vector>

namespace chart {

struct TerminalPlot {
  std::string title, x_label;
  std::vector<double> x, y;
  size_t columns = 80, rows = 20;  // of the whole plot, title and labels included
  bool braille = true;             // 2 x 4 dots per character; else one star
};

// `rows` lines at most, none wider than `columns` characters, each ended by a line break.
// Requires: x and y are equally long.
std::string draw(const TerminalPlot& plot);

}  // namespace chart
