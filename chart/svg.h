// SVG elements as text. Drawings take their colours from classes, which the page's style sheet
// defines for light and dark; a drawing that stands alone carries the sheet inside.
#pragma once

#include <string>
#include <string_view>

namespace chart {

// Colours of lines and points; lines of one colour differ in their dashes, so that 32 lines can be
// told apart. Beyond that they repeat.
inline constexpr size_t kColours = 8;
inline constexpr size_t kDashes = 4;

// All drawings are so wide: letters stay readable when a phone shows one at three quarters.
inline constexpr double kDrawingWidth = 480;

// One decimal: enough for a drawing some hundred units wide.
std::string format_coordinate(double value);

enum class Anchor { start, middle, end };

std::string svg_text(double x, double y, std::string_view text, Anchor anchor,
                     std::string_view classes = "label");
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view classes);
std::string svg_rectangle(double x, double y, double width, double height, std::string_view classes,
                          double opacity = 1);

// The <svg> element around `body`; `title` is read aloud.
std::string svg_document(double height, std::string_view title, std::string_view body);

// Colours and strokes of all drawings, for light and dark.
std::string_view drawing_style();

// A file of its own: the drawing with its style sheet.
std::string standalone_svg(const std::string& drawing);

}  // namespace chart
