#include "core/text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

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

// By the whole table of distances.
size_t plain_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min(std::min(d[i - 1][j], d[i][j - 1]) + 1,
                         d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

TEST(Text, NearestIsByTheWholeDistance) {
  std::mt19937 random(7);
  const auto word = [&](size_t longest) {
    std::string text(random() % (longest + 1), ' ');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int trial = 0; trial < 20000; ++trial) {
    const std::string from = word(9), to = word(9);
    const size_t distance = plain_distance(from, to);
    const bool near = distance < std::min<size_t>(3, from.size() / 2 + 1);
    const size_t shared = static_cast<size_t>(
        std::mismatch(from.begin(), from.end(), to.begin(), to.end()).first - from.begin());
    EXPECT_EQ(nearest(from, {to}), near || shared >= 4 ? to : "") << from << " " << to;
    const std::string other = word(9);
    if (near && plain_distance(from, other) < distance) {
      EXPECT_EQ(nearest(from, {to, other}), other) << from << " " << to;
    }
  }
}

TEST(Text, DurationsThatAreNone) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(format_duration(3723.4), "01:02:03");
  EXPECT_EQ(format_duration(-kInf), "00:00:00");
  for (const double seconds : {kInf, 1e15, 1e300, std::nan("")})
    EXPECT_EQ(format_duration(seconds), "unknown") << seconds;
}

TEST(Text, PrintableIsWithoutControlCharacters) {
  EXPECT_EQ(printable("a\x1b[2J\n\x7f"), "a\\x1b[2J\\x0a\\x7f");
  EXPECT_EQ(printable("\xC2\x9B"
                      "2J\xC2\x80 \xC2\xA0\xC3\xA9"),
            "\\xc2\\x9b2J\\xc2\\x80 \xC2\xA0\xC3\xA9");
  EXPECT_EQ(printable("\x9B\xFF"), "\\x9b\\xff");
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
