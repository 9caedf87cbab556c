// A table, as HTML, Markdown and CSV.
#pragma once

#include <string>
#include <vector>

namespace chart {

struct Cell {
  std::string text;
  double number = 0;  // by which a column of numbers is sorted
  bool is_number = false;
};

Cell text_cell(std::string text);
// `text` is what is shown and, like the number, what stands in CSV; "-" without a finite number.
Cell number_cell(double value);
Cell number_cell(double value, std::string text);

struct Table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;  // each as long as `columns`
};

std::string to_html(const Table& table);
std::string to_markdown(const Table& table);
std::string to_csv(const Table& table);  // RFC 4180; numbers with all their digits

// A field of CSV, quoted where it must be.
std::string csv_quoted(const std::string& text);

}  // namespace chart
