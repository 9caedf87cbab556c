#include "data/tokenize_files.h"
#include "tests/support/refusal.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/shard.h"
#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;
using test_support::slurp;

namespace fs = std::filesystem;
using core::ExitCode;

class TokenizeFilesTest : public ShardFiles {
 protected:
  static ShardOrigin origin(std::optional<uint32_t> eos) {
    return {.tokenizer_name = "bytes",
            .tokenizer_hash = "h",
            .vocab_size = 257,
            .eos_id = eos,
            .key = {},
            .inputs = {}};
  }

  static std::string ids_of(const fs::path& shard) {
    const std::string bytes = slurp(shard);
    std::string text;
    for (size_t i = 0; i + 1 < bytes.size(); i += 2)
      text += bytes[i + 1] != 0 ? '|' : bytes[i];  // id 256 is the end of text
    return text;
  }
};

// One id per byte; short documents take longer than long ones, to mix the threads up.
std::vector<uint32_t> bytes_encoder(std::string_view text) {
  if (text.size() % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  std::vector<uint32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

TEST_F(TokenizeFilesTest, DocumentsFollowInTheOrderOfTheInput) {
  const std::vector<fs::path> inputs = {
      write("a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n"), write("b.txt", "three"),
      write("c.jsonl", "{\"text\":\"four\"}")};
  const TokenizeResult result = tokenize_files(inputs, at("out"), origin(256), bytes_encoder);
  EXPECT_EQ(result.documents, 4);
  EXPECT_EQ(result.tokens, 19);
  EXPECT_EQ(result.token_size, 2);
  EXPECT_EQ(ids_of(result.shard), "one|two|three|four|");
  const auto record = nlohmann::json::parse(slurp(at("out.ds.json")));
  EXPECT_EQ(record["inputs"], nlohmann::json({"a.jsonl", "b.txt", "c.jsonl"}));
  EXPECT_EQ(record["key"], "text");
  EXPECT_EQ(ids_of(tokenize_files(inputs, at("plain"), origin({}), bytes_encoder).shard),
            "onetwothreefour");
}

TEST_F(TokenizeFilesTest, AnyNumberOfThreadsWritesTheSameBytes) {
  std::string lines;
  for (int i = 0; i < 10000; ++i)
    lines += "{\"text\":\"" + std::to_string(i) + std::string(static_cast<size_t>(i % 50), 'x') +
             "\"}\n";
  const std::vector<fs::path> inputs = {write("a.jsonl", lines)};
  std::string first, index;
  for (const int threads : {1, 2, 5}) {
    TokenizeOptions options;
    options.threads = threads;
    TokenizeProgress last;
    int calls = 0;
    options.progress = [&](const TokenizeProgress& now) {
      EXPECT_GE(now.documents, last.documents);
      EXPECT_GE(now.input_bytes, last.input_bytes);
      last = now;
      ++calls;
    };
    tokenize_files(inputs, at("out"), origin(256), bytes_encoder, options);
    EXPECT_GE(calls, 3);
    EXPECT_EQ(last.input_bytes, lines.size());
    EXPECT_EQ(last.input_total, lines.size());
    EXPECT_EQ(last.documents, 10000);
    if (threads == 1) {
      first = slurp(at("out.ds"));
      index = slurp(at("out.ds.index"));
    }
    EXPECT_TRUE(slurp(at("out.ds")) == first && slurp(at("out.ds.index")) == index);
  }
}

// A tokenizer may make many ids of a short text: a batch that ended by bytes alone would hold all
// of them, here 40 MiB.
TEST_F(TokenizeFilesTest, ABatchEndsByIds) {
  constexpr int64_t kIdsOfOne = 1 << 20, kDocuments = 10;
  std::string lines;
  for (int i = 0; i < kDocuments; ++i) lines += "{\"text\":\"" + std::to_string(i) + "\"}\n";
  const Encoder many = [](std::string_view text) {
    return std::vector<uint32_t>(kIdsOfOne, static_cast<uint32_t>(text.front() - '0'));
  };
  for (const int threads : {1, 2}) {
    TokenizeOptions options;
    options.threads = threads;
    int64_t before = 0, largest = 0, documents = 0;
    options.progress = [&](const TokenizeProgress& now) {
      largest = std::max(largest, now.tokens - before);
      before = now.tokens;
      documents = now.documents;
    };
    const fs::path shard =
        tokenize_files(std::vector{write("a.jsonl", lines)}, at("out"), origin({}), many, options)
            .shard;
    EXPECT_GE(largest, 4 * kIdsOfOne) << "at least 4 Mi";
    EXPECT_LE(largest, (4 + threads - 1) * kIdsOfOne) << "and the documents begun by then";
    EXPECT_EQ(documents, kDocuments);
    const std::string bytes = slurp(shard);
    ASSERT_EQ(bytes.size(), static_cast<size_t>(2 * kDocuments * kIdsOfOne));
    size_t wrong = 0;
    for (size_t i = 0; i < bytes.size(); i += 2)
      wrong += bytes[i] != static_cast<char>(i / 2 / kIdsOfOne);
    EXPECT_EQ(wrong, 0u);
  }
}

TEST_F(TokenizeFilesTest, WritesNothingWhenAnyInputIsBad) {
  const fs::path good = write("a.jsonl", "{\"text\":\"one\"}\n");
  const fs::path bad = write("b.jsonl", "{\"text\":\"one\"}\n{\"text\":1}\n");
  const auto run = [&](const std::vector<fs::path>& inputs) {
    tokenize_files(inputs, at("out"), origin(256), bytes_encoder);
  };
  expect_refusal(ExitCode::kBadData, "b.jsonl:2:", [&] { run({good, bad}); });
  expect_refusal(ExitCode::kMissingInput, "none.txt", [&] { run({good, at("none.txt")}); });
  expect_refusal(ExitCode::kUsage, "input", [&] { run({}); });
  EXPECT_EQ(names().size(), 2u);
  expect_refusal(ExitCode::kBadData, {"out.ds", "tokens"}, [&] {
    tokenize_files(std::vector{write("e.txt", "")}, at("out"), origin({}), bytes_encoder);
  });
  EXPECT_FALSE(fs::exists(at("out.ds")));
}

TEST_F(TokenizeFilesTest, TheFirstDocumentThatFailsIsTheOneReported) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\":\"" + std::to_string(i) + "\"}\n";
  const std::vector<fs::path> inputs = {write("a.jsonl", lines)};
  const Encoder failing = [](std::string_view text) -> std::vector<uint32_t> {
    if (text == "20") std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (text.ends_with("0") && text.size() > 1)
      core::fail(ExitCode::kBadData, {.field = std::string(text)});
    return {1};
  };
  TokenizeOptions options;
  options.threads = 4;
  expect_refusal(ExitCode::kBadData, "error: 10:", [&] {
    tokenize_files(inputs, at("out"), origin({}), failing, options);
  });
}

}  // namespace
}  // namespace data
