// Trees of JSON stay bounded: what a few megabytes of text may become.
#include "core/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/refusal.h"

namespace {

using core::parse_json;
using test_support::expect_refusal;

std::string list_of(const std::string& element, size_t count) {
  std::string text = "[";
  for (size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + element;
  return text + "]";
}

TEST(Json, TakesAsManyListsAndObjectsAsItSays) {
  constexpr size_t kMost = size_t{1} << 20;  // the list around them is one, too
  EXPECT_EQ(parse_json("x", list_of("{}", kMost - 1)).size(), kMost - 1);
  for (const char* element : {"{}", "[]"})
    expect_refusal(core::ExitCode::kBadData, "x: error: JSON: more than 1048576 lists",
                   [&] { parse_json("x", list_of(element, kMost)); });
}

TEST(Json, RefusesDepthAndDuplicates) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json("x", nested(64)));
  expect_refusal(core::ExitCode::kBadData, "nesting deeper than 64",
                 [&] { parse_json("x", nested(65)); });
  expect_refusal(core::ExitCode::kBadData, "duplicate key \"a\"",
                 [&] { parse_json("x", R"({"a":{"b":1,"a":2},"a":3})"); });
}

}  // namespace
