#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "chart/heat_map.h"
#include "chart/svg.h"
#include "chart/terminal_plot.h"
#include "chart/text.h"
#include "chart/xy_chart.h"

namespace chart {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// Every drawing consists of elements that close themselves, and of <text> and <svg> that are
// closed.
void expect_balanced(const std::string& svg) {
  EXPECT_EQ(count(svg, "<svg"), 1U);
  EXPECT_EQ(count(svg, "</svg>"), 1U);
  EXPECT_EQ(count(svg, "<text"), count(svg, "</text>"));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(TextTest, EscapesWhatHtmlAndXmlWouldRead) {
  EXPECT_EQ(escape("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(escape(std::string("a\0b\x1b", 4)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(escape("x\xFFy"), "x\xEF\xBF\xBDy");
  EXPECT_EQ(escape("\xEF\xBF\xBF"), "\xEF\xBF\xBD");
}

TEST(XyChartTest, CurveGoesThroughItsPointsAndBreaksAtGaps) {
  const std::string svg = draw(XyChart{
      .title = "t",
      .x_label = "x",
      .y_label = "y",
      .series = {{.name = "<run>", .x = {0, 1, 2, 3, 4}, .y = {0, 1, std::nan(""), 1, 0}}}});
  expect_balanced(svg);
  const size_t path = svg.find("<path d=\"M");
  ASSERT_NE(path, std::string::npos);
  const std::string data = svg.substr(path, svg.find('>', path) - path);
  EXPECT_EQ(count(data, "M"), 2U);
  EXPECT_EQ(count(data, "L"), 2U);
  EXPECT_NE(svg.find("&lt;run&gt;"), std::string::npos);
  EXPECT_NE(svg.find("1 of 5 values cannot be shown"), std::string::npos);
}

TEST(XyChartTest, EmptyAndSinglePointSeries) {
  const std::string empty = draw(XyChart{.title = "t", .x_label = "", .y_label = "", .series = {}});
  expect_balanced(empty);
  EXPECT_NE(empty.find("no values recorded"), std::string::npos);
  const std::string single = draw(XyChart{
      .title = "t", .x_label = "", .y_label = "", .series = {{.name = {}, .x = {5}, .y = {7}}}});
  expect_balanced(single);
  EXPECT_EQ(count(single, "<circle"), 1U);
}

TEST(XyChartTest, ThirtyTwoLinesCanBeToldApart) {
  XyChart chart{.title = "t", .x_label = "x", .y_label = "y", .series = {}};
  for (size_t i = 0; i < 32; ++i)
    chart.series.push_back({.name = "run", .x = {0, 1}, .y = {0, 1}, .style = i});
  const std::string svg = draw(chart);
  std::set<std::string> classes;
  for (size_t at = svg.find("curve s"); at != std::string::npos; at = svg.find("curve s", at + 1))
    classes.insert(svg.substr(at, svg.find('"', at) - at));
  EXPECT_EQ(classes.size(), 32U);
}

TEST(XyChartTest, LongRunsStaySmallAndKeepTheirPeaks) {
  Series series{.name = "long", .x = {}, .y = {}};
  for (int i = 0; i < 1000000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 654321 ? 100 : 1);
  }
  const std::string svg =
      draw(XyChart{.title = "t", .x_label = "", .y_label = "", .series = {series}});
  EXPECT_LT(svg.size(), 60000U);
  const size_t top = svg.find(" 48L");  // y of the frame's upper edge, where 100 is
  EXPECT_NE(top, std::string::npos);
}

TEST(HeatMapTest, CellsAreShadedByValue) {
  const std::string svg = draw(HeatMap{.title = "t",
                                       .x_label = "x",
                                       .y_label = "y",
                                       .rows = {"a", "b"},
                                       .columns = {"c", "d"},
                                       .values = {0, 1, std::nan(""), 1}});
  expect_balanced(svg);
  EXPECT_EQ(count(svg, "class=\"heat\""), 2U);  // two shades
  EXPECT_EQ(count(svg, "fill-opacity=\"1.000\""), 1U);
  EXPECT_EQ(count(svg, "class=\"on-heat\""), 2U);
  EXPECT_EQ(count(svg, "class=\"off-heat\""), 1U);
}

TEST(HeatMapTest, NumbersOfAMapHaveTheSameDecimals) {
  const auto drawn = [](const std::vector<double>& values) {
    return draw(HeatMap{.title = "t",
                        .x_label = "x",
                        .y_label = "y",
                        .rows = {"a"},
                        .columns = {"c", "d"},
                        .values = values});
  };
  EXPECT_EQ(count(drawn({2.93, 4.0562}), ">2.930<"), 1U);
  EXPECT_EQ(count(drawn({2.93, 40.562}), ">2.93<"), 1U);
  EXPECT_EQ(count(drawn({3, 40}), ">3<"), 1U);
  EXPECT_EQ(count(drawn({1e99, 3}), ">1e+99<"), 1U);
  EXPECT_EQ(count(drawn({2e-7, 0}), ">2e-07<"), 1U);
}

TEST(HeatMapTest, EmptyMap) {
  expect_balanced(draw(HeatMap{
      .title = "t", .x_label = "", .y_label = "", .rows = {}, .columns = {}, .values = {}}));
}

TEST(SvgTest, StandaloneDrawingCarriesItsStyle) {
  const std::string svg = standalone_svg(svg_document(10, "title", ""));
  EXPECT_EQ(count(svg, "<style>"), 1U);
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(TerminalPlotTest, StaysWithinItsSize) {
  TerminalPlot plot{
      .title = "loss", .x_label = "step", .x = {}, .y = {}, .columns = 60, .rows = 15};
  for (int i = 0; i < 200; ++i) {
    plot.x.push_back(i);
    plot.y.push_back(5.0 / (1 + i));
  }
  for (const bool braille : {true, false}) {
    plot.braille = braille;
    const std::string text = draw(plot);
    EXPECT_EQ(count(text, "\n"), 15U);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      const auto characters = std::count_if(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                            text.begin() + static_cast<std::ptrdiff_t>(end),
                                            [](char c) { return (c & 0xC0) != 0x80; });
      EXPECT_LE(characters, 60);
      begin = end + 1;
    }
  }
}

TEST(TerminalPlotTest, FallingCurveFalls) {
  const std::string text = draw(TerminalPlot{.title = {},
                                             .x_label = {},
                                             .x = {0, 1},
                                             .y = {1, 0},
                                             .columns = 40,
                                             .rows = 12,
                                             .braille = false});
  EXPECT_LT(text.find('*'), text.rfind('*'));
  const size_t first_line = text.find('\n') + 1;
  EXPECT_EQ(text.substr(first_line, 12), "        1 +*");
}

TEST(TerminalPlotTest, TitleCannotMoveTheCursor) {
  const auto title = [](const std::string& given) {
    const std::string text =
        draw(TerminalPlot{.title = given, .x_label = {}, .x = {}, .y = {}, .columns = 30});
    return text.substr(0, text.find('\n'));
  };
  EXPECT_EQ(title("a\x1b[2J\n" + std::string(100, 'x')), "a\\x1b[2J\\x0a" + std::string(18, 'x'));
  EXPECT_EQ(title("\xC2\x9B"
                  "2J\x7F"),
            "\\xc2\\x9b2J\\x7f");
}

TEST(TerminalPlotTest, NothingToDrawAndTinyTerminals) {
  EXPECT_FALSE(draw(TerminalPlot{.title = "t", .x_label = "x", .x = {}, .y = {}}).empty());
  EXPECT_FALSE(draw(TerminalPlot{.title = "t",
                                 .x_label = "x",
                                 .x = {1, 1e300},
                                 .y = {std::nan(""), 2},
                                 .columns = 0,
                                 .rows = 0})
                   .empty());
}

}  // namespace
}  // namespace chart
