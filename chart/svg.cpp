#include "chart/svg.h"

#include <fmt/format.h>

#include "chart/text.h"

namespace chart {
namespace {

const char* name_of(Anchor anchor) {
  return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end";
}

constexpr std::string_view kStyle = R"(
:root{--paper:#fff;--ink:#1c2733;--soft:#5a6775;--rule:#e1e6eb;--heat:#0b4f9e;--heat-ink:#fff;
--c0:#0b62b0;--c1:#c2410c;--c2:#0b7a5c;--c3:#8a3fa0;--c4:#8a6100;--c5:#b0246a;--c6:#4a5a6a;--c7:#1d7f9c}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e4e9ee;--soft:#9aa7b4;--rule:#2d353e;
--heat:#79b8ff;--heat-ink:#0c1116;
--c0:#6cb6ff;--c1:#ff9466;--c2:#4fd1a5;--c3:#d59bf0;--c4:#e3b341;--c5:#ff8fc4;--c6:#b6c2cf;--c7:#6fd3ea}}
svg.chart{display:block;width:100%;height:auto;background:var(--paper);
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
.chart text{fill:var(--soft);font-size:13px}.chart .title{fill:var(--ink);font-size:15px;font-weight:600}
.chart .legend{fill:var(--ink)}.chart .on-heat{fill:var(--heat-ink)}.chart .off-heat{fill:var(--ink)}
.chart .grid{stroke:var(--rule);stroke-width:1}.chart .axis{stroke:var(--soft);stroke-width:1}
.chart .mark{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 3}
.chart .curve{fill:none;stroke-width:2;stroke-linejoin:round}.chart .faint{opacity:.3;stroke-width:1.2}
.chart .heat{fill:var(--heat)}.chart .frame{fill:none;stroke:var(--rule)}
.chart .s0{stroke:var(--c0)}.chart .s1{stroke:var(--c1)}.chart .s2{stroke:var(--c2)}.chart .s3{stroke:var(--c3)}
.chart .s4{stroke:var(--c4)}.chart .s5{stroke:var(--c5)}.chart .s6{stroke:var(--c6)}.chart .s7{stroke:var(--c7)}
.chart .p0{fill:var(--c0)}.chart .p1{fill:var(--c1)}.chart .p2{fill:var(--c2)}.chart .p3{fill:var(--c3)}
.chart .p4{fill:var(--c4)}.chart .p5{fill:var(--c5)}.chart .p6{fill:var(--c6)}.chart .p7{fill:var(--c7)}
.chart .d1{stroke-dasharray:7 3}.chart .d2{stroke-dasharray:2 3}.chart .d3{stroke-dasharray:9 3 2 3}
)";

}  // namespace

std::string format_coordinate(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string svg_text(double x, double y, std::string_view text, Anchor anchor,
                     std::string_view classes) {
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n",
                     format_coordinate(x), format_coordinate(y), name_of(anchor), classes,
                     escape(text));
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view classes) {
  return fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{}\"/>\n",
                     format_coordinate(x1), format_coordinate(y1), format_coordinate(x2),
                     format_coordinate(y2), classes);
}

std::string svg_rectangle(double x, double y, double width, double height, std::string_view classes,
                          double opacity) {
  return fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\" fill-opacity=\"{:.3g}\"/>\n",
      format_coordinate(x), format_coordinate(y), format_coordinate(width),
      format_coordinate(height), classes, opacity);
}

std::string svg_document(double height, std::string_view title, std::string_view body) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {} {}\" "
      "role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
      format_coordinate(kDrawingWidth), format_coordinate(height), escape(title), body);
}

std::string_view drawing_style() { return kStyle; }

std::string standalone_svg(const std::string& drawing) {
  const size_t body = drawing.find('\n') + 1;
  return fmt::format("{}<style>{}</style>\n{}", drawing.substr(0, body), kStyle,
                     drawing.substr(body));
}

}  // namespace chart
