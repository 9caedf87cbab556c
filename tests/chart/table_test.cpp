#include "chart/table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace chart {
namespace {

Table small() {
  return {.title = "T",
          .columns = {"name", "value"},
          .rows = {{text_cell("a,\"b\""), number_cell(1.0 / 3)},
                   {text_cell("=1+1|<x>"), number_cell(std::nan(""))}}};
}

TEST(TableTest, CsvQuotesAndKeepsAllDigits) {
  EXPECT_EQ(to_csv(small()), "name,value\r\n\"a,\"\"b\"\"\",0.3333333333333333\r\n'=1+1|<x>,\r\n");
}

TEST(TableTest, MarkdownEscapesBars) {
  EXPECT_EQ(to_markdown(small()),
            "## T\n\n| name | value |\n|---|---:|\n| a,&quot;b&quot; | 0.333333 |\n"
            "| =1+1\\|&lt;x&gt; | - |\n");
}

TEST(TableTest, HtmlEscapesAndSortsByNumber) {
  const std::string html = to_html(small());
  EXPECT_NE(html.find("data-key=\"0.3333333333333333\""), std::string::npos);
  EXPECT_NE(html.find("=1+1|&lt;x&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<x>"), std::string::npos);
}

}  // namespace
}  // namespace chart
