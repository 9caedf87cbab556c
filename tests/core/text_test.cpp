#include "core/text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace core {
namespace {

TEST(Text, NearestFindsTyposAndPrefixesOnly) {
  EXPECT_EQ(nearest("learning_rat", {"weight_decay", "learning_rate"}), "learning_rate");
  EXPECT_EQ(nearest("sequnece_length", {"sequence_length"}), "sequence_length");
  EXPECT_EQ(nearest("train", {"train_steps"}), "train_steps");
  EXPECT_EQ(nearest("foo", {"weight_decay"}), "");
  EXPECT_EQ(nearest("foo", {"low"}), "");
  EXPECT_EQ(nearest("lwo", {"low"}), "low");
}

TEST(Text, FindsTheFirstInvalidUtf8Byte) {
  EXPECT_EQ(find_invalid_utf8("na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80"),
            std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("ab\xFFzz"), 2u);
  EXPECT_EQ(find_invalid_utf8("\xC0\x80"), 0u);       // overlong NUL
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80"), 1u);  // surrogate
  EXPECT_EQ(find_invalid_utf8("abc\xE2\x82"), 3u);    // cut short
}

TEST(Json, RefusesDuplicatesDepthAndRubbishWithOneLine) {
  const std::vector<std::string> texts = {R"({"a":1,"a":2})", "{\"a\":", std::string(100, '[')};
  for (const std::string& text : texts) {
    try {
      parse_json("x.json", text);
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kBadData);
      EXPECT_EQ(std::string(e.what()).find("x.json:"), 0u) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace core
