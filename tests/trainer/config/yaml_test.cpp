// YAML as anybody may have written it, and files of configurations.
#include "trainer/config/config.h"

#include <gtest/gtest.h>

#include <chrono>

#include "core/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/config/config_case.h"

namespace trainer {
namespace {

using namespace config_case;

struct Hostile {
  const char* name;
  std::string text;
  std::string expected;
};

std::string minimal_with_crlf() {
  std::string text = "\xEF\xBB\xBF";
  for (const char c : kMinimal) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  return text;
}

TEST(ConfigYaml, HostileTexts) {
  std::string bomb = "a: &a [x, x, x, x]\n";
  for (char c = 'b'; c < 'z'; ++c) {
    const std::string last(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [*" + last + ", *" + last + ", *" + last + "]\n";
  }
  std::string many;
  for (int i = 0; i < 60000; ++i) many += "k" + std::to_string(i) + ": 1\n";
  std::string unknown;
  for (int i = 0; i < 9000; ++i) unknown += "k" + std::to_string(i) + ": 1\n";
  std::string block;
  for (int i = 0; i < 1000; ++i) block += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  // Each of these tags is expanded to the whole prefix.
  std::string tags = "%TAG !e! " + std::string(500'000, 'p') + "\n---\n";
  for (int i = 0; i < 19'000; ++i) tags += "- !e!a x\n";
  const std::vector<Hostile> cases = {
      {"duplicate", kMinimal + "model: {init_from: b}\n",
       "tiny.yaml:5:1: error: expected each key once, got the duplicate key \"model\"; it is "
       "already set at line 2; remove one of them"},
      {"alias bomb", bomb, "anchors/tags not supported"},
      {"anchor", "general: &x {run: a}\n", "1:10: error: expected a plain value, got an anchor"},
      {"unknown alias", "general: *x\n", "error: expected valid YAML"},
      {"merge key", "general: {<<: {run: a}}\n", "got the merge key '<<'"},
      {"tag", "general: !!python/object:os.system {run: a}\n", "got the tag"},
      {"many tags", tags, "got the tag"},
      {"deep flow", std::string(100000, '['), "expected at most 32 levels"},
      {"deep maps", std::string(100000, '{'), "expected at most 32 levels"},
      {"deep block", block, "expected at most 32 levels"},
      {"deep sequence", std::string(33000, '-'), "expected a mapping of sections"},
      {"many keys", many, "expected at most 20000 keys and values"},
      {"many unknown keys", unknown, "more\n"},
      {"too large", std::string((1 << 20) + 1, '#'), "expected at most 1048576 bytes, got 1048577"},
      {"tab", "general:\n\trun: a\n", "2:1: error: expected UTF-8 text, got a tab at byte 9"},
      {"UTF-16", std::string("\xFF\xFEg\0:\0", 6), "got UTF-16 at byte 0"},
      {"invalid UTF-8", "general: {run: \xC3(}\n", "got an invalid sequence at byte 15"},
      {"NUL", std::string("general: {run: a\0b}", 19), "control character 0x00 at byte 16"},
      {"two documents", kMinimal + "---\n" + kMinimal, "expected one document"},
      {"empty", "", "expected a mapping of sections, got an empty file"},
      {"comments only", "# nothing\n# here\n", "got an empty file"},
      {"list", "- a\n- b\n", "expected a mapping of sections, got a list"},
      {"scalar", "42", "expected a mapping of sections, got 42"},
      {"unclosed", "general: {run: a\n", "expected valid YAML"},
      {"list as a key", "? [a, b]\n: c\n", "got a value that cannot be one"},
      {"section is a list", kMinimal + "general: [a]\n",
       "general: expected a mapping of keys, got a list"},
      {"stages are a mapping", kMinimal + "validation: {sets: [a]}\n",
       "validation.sets: expected a mapping of name: path, got a list"},
      {"huge key", std::string(100000, 'k') + ": 1\n", ""},
      {"newline in a key", "\"a\\nb\": 1\n", "unknown key \"a\\x0ab\""},
  };
  for (const Hostile& h : cases) {
    const auto start = std::chrono::steady_clock::now();
    const std::string message = refusal(h.text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_FALSE(message.empty()) << h.name;
    EXPECT_CONTAINS(message, h.expected) << " (" << h.name << ")";
    EXPECT_TRUE(!contains(message, "\n") || contains(message, "errors; nothing was started."))
        << h.name;
    EXPECT_LT(message.size(), 200000u) << h.name;
    EXPECT_LT(seconds.count(), 2.0) << h.name;
  }
}

TEST(ConfigYaml, ByteOrderMarkAndCarriageReturnsAreAccepted) {
  EXPECT_EQ(parse(minimal_with_crlf()), parse(kMinimal));
}

TEST(ConfigYaml, StructuralErrorsDoNotHideOthers) {
  const std::string text = refusal(kMinimal + "general: {seed: x, seed: 3}\n");
  EXPECT_CONTAINS(text, "duplicate key \"seed\"");
  EXPECT_CONTAINS(text, "general.seed: expected integer >= 0, got \"x\"");
  EXPECT_CONTAINS(text, "2 errors; nothing was started.");
}

TEST(ConfigFile, MissingIsMissingAndLargeIsBad) {
  try {
    load_config("/nonexistent/tiny.yaml");
    FAIL();
  } catch (const core::Error& e) {
    EXPECT_EQ(e.code(), core::ExitCode::kMissingInput);
  }
  const test_support::TemporaryFolder folder;
  const fs::path path = folder.write("large.yaml", std::string((1 << 20) + 1, '#'));
  try {
    load_config(path);
    FAIL();
  } catch (const core::Error& e) {
    EXPECT_EQ(e.code(), core::ExitCode::kBadConfig);
    EXPECT_CONTAINS(std::string(e.what()), "expected at most 1048576 bytes, got 1048577");
  }
}

}  // namespace
}  // namespace trainer
