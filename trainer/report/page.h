// The parts of a report: sections of text, figures and tables, put on one page.
#pragma once

#include <string>
#include <vector>

#include "chart/table.h"

namespace trainer {

struct Figure {
  std::string file;     // name of the SVG without its extension
  std::string drawing;  // an <svg> element
  std::string caption;
};

struct NamedTable {
  std::string file;  // name of the CSV and Markdown files without their extension
  chart::Table table;
};

struct ReportSection {
  std::string title;
  std::string prefix = {};  // of its files' names
  std::vector<std::string> paragraphs;
  std::vector<Figure> figures;
  std::vector<NamedTable> tables;
};

// A loss in nats, with four digits.
chart::Cell loss_cell(double loss);

// One HTML file that needs nothing else: no network, no script but the one that sorts tables.
std::string make_page(const std::string& title, const std::vector<ReportSection>& sections);

}  // namespace trainer
