// Small files of JSON: what is no object, or too much, reads as an empty one.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/json_files.h"

#include <nlohmann/json.hpp>

namespace {

using namespace trainer;
using namespace test_support;
using nlohmann::json;

// {"host": [[...]]}, with so many lists.
std::string nested_lists(size_t depth) {
  return R"({"host": )" + std::string(depth, '[') + std::string(depth, ']') + "}";
}

TEST(JsonFiles, WhatIsNoObjectIsAnEmptyOne) {
  TemporaryFolder folder;
  EXPECT_EQ(read_object(folder / "missing.json"), json::object());
  for (const char* text : {"", "[1]", "null", "{", R"({"a": 1}{)", R"({"a": 1, "a": 2})", "\xff"})
    EXPECT_EQ(read_object(folder.write("a.json", text)), json::object()) << text;
  EXPECT_EQ(read_object(folder.write("a.json", R"({"a": [1]})")), (json{{"a", {1}}}));
  EXPECT_FAILS(kMissingInput, "a regular file", read_object(folder.path()));
}

// A deep value would overflow the stack where it is copied.
TEST(JsonFiles, RP07DeepNestingIsNoObject) {
  TemporaryFolder folder;
  EXPECT_EQ(read_object(folder.write("run.lock", nested_lists(10))).size(), 1u);
  for (const size_t depth : {100u, 100'000u})
    EXPECT_EQ(read_object(folder.write("run.lock", nested_lists(depth))), json::object()) << depth;
}

TEST(JsonFiles, RP07LargeFilesAreNotRead) {
  TemporaryFolder folder;
  const std::string object = R"({"a": 1})", blanks(16 << 20, ' ');
  EXPECT_EQ(read_object(folder.write("a.json", object + blanks)), json::object());
  EXPECT_EQ(read_object(folder.write("a.json", object + blanks.substr(object.size()))).size(), 1u);
}

TEST(JsonFiles, ResultIsOfItsStep) {
  TemporaryFolder folder;
  folder.write("result.json", R"({"steps": 7})");
  EXPECT_EQ(read_result(folder.path(), 7), (json{{"steps", 7}}));
  EXPECT_EQ(read_result(folder.path(), 8), json());
}

}  // namespace
