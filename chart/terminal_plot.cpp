#include "chart/terminal_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "chart/axis.h"
#include "core/error.h"

namespace chart {
namespace {

constexpr size_t kLabelWidth = 9, kLeastColumns = 24, kLeastRows = 6;
constexpr size_t kLinesAround = 3;  // title, labels of x, its name

// Dots of a character: columns 0 and 1, rows 0 to 3, and their bits in U+2800.
constexpr unsigned kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

class Canvas {
 public:
  Canvas(size_t columns, size_t rows, bool braille)
      : columns_(columns), rows_(rows), braille_(braille), cells_(columns * rows, 0) {}

  size_t width() const { return braille_ ? columns_ * 2 : columns_; }
  size_t height() const { return braille_ ? rows_ * 4 : rows_; }

  void set(size_t x, size_t y) {
    if (braille_)
      cells_[y / 4 * columns_ + x / 2] |= kDots[y % 4][x % 2];
    else
      cells_[y * columns_ + x] = 1;
  }

  std::string line(size_t row) const {
    std::string text;
    for (size_t c = 0; c < columns_; ++c) {
      const unsigned cell = cells_[row * columns_ + c];
      if (cell == 0)
        text += ' ';
      else if (braille_)
        text += fmt::format("\xE2{}{}", static_cast<char>(0xA0 | (cell >> 6)),
                            static_cast<char>(0x80 | (cell & 0x3F)));
      else
        text += '*';
    }
    return text.erase(text.find_last_not_of(' ') + 1);
  }

 private:
  size_t columns_, rows_;
  bool braille_;
  std::vector<unsigned> cells_;
};

size_t dot_of(double place, size_t dots) {
  return static_cast<size_t>(
      std::lround(std::clamp(place, 0.0, 1.0) * static_cast<double>(dots - 1)));
}

struct Dot {
  size_t x = 0, y = 0;
};

size_t distance(size_t a, size_t b) { return a > b ? a - b : b - a; }

// All dots of a straight line.
void draw_segment(const Dot& from, const Dot& to, Canvas& canvas) {
  const size_t steps = std::max({size_t{1}, distance(from.x, to.x), distance(from.y, to.y)});
  for (size_t s = 0; s <= steps; ++s) {
    const double t = static_cast<double>(s) / static_cast<double>(steps);
    const auto between = [t](size_t a, size_t b) {
      return static_cast<size_t>(
          std::lround((1 - t) * static_cast<double>(a) + t * static_cast<double>(b)));
    };
    canvas.set(between(from.x, to.x), between(from.y, to.y));
  }
}

void draw_curve(const TerminalPlot& plot, const Axis& x_axis, const Axis& y_axis, Canvas& canvas) {
  Dot last;
  bool connected = false;
  for (size_t i = 0; i < plot.x.size(); ++i) {
    const bool shown = x_axis.can_show(plot.x[i]) && y_axis.can_show(plot.y[i]);
    if (shown) {
      const Dot dot{dot_of(x_axis.place(plot.x[i]), canvas.width()),
                    dot_of(1 - y_axis.place(plot.y[i]), canvas.height())};
      draw_segment(connected ? last : dot, dot, canvas);
      last = dot;
    }
    connected = shown;
  }
}

// At most `columns` characters, none of which moves the cursor.
std::string plain_line(const std::string& text, size_t columns) {
  std::string line;
  size_t characters = 0;
  for (const char c : core::printable(text)) {
    const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (!continues && ++characters > columns) break;
    line += c;
  }
  return line;
}

}  // namespace

std::string draw(const TerminalPlot& plot) {
  const size_t columns = std::max(plot.columns, kLeastColumns) - kLabelWidth - 2;
  const size_t rows = std::max(plot.rows, kLeastRows) - kLinesAround;
  const Axis x_axis = make_axis(plot.x, false, 5);
  const Axis y_axis = make_axis(plot.y, false, static_cast<int>(std::max<size_t>(2, rows / 4)));
  Canvas canvas(columns, rows, plot.braille);
  draw_curve(plot, x_axis, y_axis, canvas);
  std::vector<std::string> labels(rows);
  for (const Tick& tick : y_axis.ticks)
    labels[dot_of(1 - y_axis.place(tick.value), rows)] = tick.label;
  std::string out = plain_line(plot.title, std::max(plot.columns, kLeastColumns)) + "\n";
  for (size_t r = 0; r < rows; ++r)
    out += fmt::format("{:>{}} {}{}\n", labels[r], kLabelWidth, labels[r].empty() ? "|" : "+",
                       canvas.line(r));
  std::string below(columns + kLabelWidth + 2, ' ');
  for (const Tick& tick : x_axis.ticks) {
    const size_t center = kLabelWidth + 2 + dot_of(x_axis.place(tick.value), columns);
    const size_t at = std::min(center - std::min(center, tick.label.size() / 2),
                               below.size() - tick.label.size());
    if (at > 0 && below.find_first_not_of(' ', at - 1) < at + tick.label.size()) continue;
    below.replace(at, tick.label.size(), tick.label);
  }
  below.erase(below.find_last_not_of(' ') + 1);
  return out + below + "\n" + fmt::format("{:>{}}\n", plot.x_label, columns + kLabelWidth + 2);
}

}  // namespace chart
