#include "chart/table.h"

#include <fmt/format.h>

#include <cmath>

#include "chart/text.h"

namespace chart {
namespace {

// Which columns hold a number.
std::vector<bool> number_columns(const Table& table) {
  std::vector<bool> holds_number(table.columns.size());
  for (const auto& row : table.rows)
    for (size_t c = 0; c < row.size(); ++c)
      if (row[c].is_number) holds_number[c] = true;
  return holds_number;
}

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : escape(text))
    out += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
  return out;
}

// A formula of a spreadsheet begins with one of these; the quote makes it text.
bool looks_like_formula(const std::string& text) {
  return !text.empty() && std::string("=+-@\t\r").find(text.front()) != std::string::npos;
}

std::string csv_cell(const Cell& cell) {
  if (cell.is_number) return fmt::format("{}", cell.number);
  if (cell.text == "-") return {};
  return csv_quoted(looks_like_formula(cell.text) ? "'" + cell.text : cell.text);
}

template <class Format>
std::string join(const std::vector<Cell>& cells, const char* between, Format format) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) out += (i > 0 ? between : "") + format(cells[i]);
  return out;
}

std::vector<Cell> head_of(const Table& table) {
  std::vector<Cell> head;
  for (const std::string& column : table.columns) head.push_back(text_cell(column));
  return head;
}

}  // namespace

Cell text_cell(std::string text) { return {.text = std::move(text)}; }

Cell number_cell(double value) { return number_cell(value, format_number(value)); }

Cell number_cell(double value, std::string text) {
  if (!std::isfinite(value)) return text_cell("-");
  return {.text = std::move(text), .number = value, .is_number = true};
}

std::string to_html(const Table& table) {
  const std::vector<bool> holds_number = number_columns(table);
  std::string out = fmt::format("<div class=\"table\"><table><caption>{}</caption>\n<thead><tr>",
                                escape(table.title));
  for (size_t c = 0; c < table.columns.size(); ++c)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", holds_number[c] ? " class=\"number\"" : "",
                       escape(table.columns[c]));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string key =
          row[c].is_number ? fmt::format(" data-key=\"{}\"", row[c].number) : "";
      const char* number = holds_number[c] ? " class=\"number\"" : "";
      out += fmt::format("<td{}{}>{}</td>", number, key, escape(row[c].text));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string to_markdown(const Table& table) {
  const auto line = [](const std::vector<Cell>& cells) {
    return "| " + join(cells, " | ", [](const Cell& c) { return markdown_cell(c.text); }) + " |\n";
  };
  std::string out =
      fmt::format("## {}\n\n", markdown_cell(table.title)) + line(head_of(table)) + "|";
  for (const bool holds_number : number_columns(table)) out += holds_number ? "---:|" : "---|";
  out += "\n";
  for (const auto& row : table.rows) out += line(row);
  return out;
}

std::string to_csv(const Table& table) {
  std::string out = join(head_of(table), ",", csv_cell) + "\r\n";
  for (const auto& row : table.rows) out += join(row, ",", csv_cell) + "\r\n";
  return out;
}

std::string csv_quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace chart
