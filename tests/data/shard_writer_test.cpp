#include "data/shard_writer.h"
#include "tests/support/refusal.h"

#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "data/shard.h"
#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;
using test_support::slurp;

namespace fs = std::filesystem;
using core::ExitCode;
using ShardWriterTest = ShardFiles;
using Ids = std::vector<uint32_t>;

ShardOrigin origin(int64_t vocab_size, std::optional<uint32_t> eos = {}) {
  return {.tokenizer_name = "org/name",
          .tokenizer_hash = "00ff",
          .vocab_size = vocab_size,
          .eos_id = eos,
          .key = "text",
          .inputs = {"a.jsonl"}};
}

TEST_F(ShardWriterTest, WritesTheFourFilesOfAShard) {
  ShardWriter writer(at("out/part"), origin(1000, 7));
  writer.append(Ids{258, 999});
  writer.append(Ids{});
  EXPECT_TRUE(!fs::exists(at("out/part.ds")) && !fs::exists(at("out/part.ds.index")));
  writer.finish();
  EXPECT_EQ(writer.path(), at("out/part.ds"));
  EXPECT_EQ(names().size(), 4u);
  EXPECT_EQ(slurp(at("out/part.ds")), std::string("\x02\x01\xE7\x03\x07\x00\x07\x00", 8));
  EXPECT_EQ(slurp(at("out/part.ds.index")),
            std::string("\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(slurp(at("out/part.ds.metadata")), "org/name|2\n4\n4.00 T");
  const auto record = nlohmann::json::parse(slurp(at("out/part.ds.json")));
  const nlohmann::json expected = {{"format", "nanoset"},
                                   {"tokenizer_name", "org/name"},
                                   {"tokenizer_hash", "00ff"},
                                   {"vocab_size", 1000},
                                   {"token_size", 2},
                                   {"eos", "append"},
                                   {"eos_id", 7},
                                   {"key", "text"},
                                   {"inputs", {"a.jsonl"}},
                                   {"documents", 2},
                                   {"tokens", 4},
                                   {"xxh3_128", core::hash_file_hex(at("out/part.ds"))}};
  EXPECT_EQ(record, expected);
  EXPECT_TRUE(Shard(at("out/part.ds"), 1000).verify_content());
}

TEST_F(ShardWriterTest, TokenSizeFollowsTheVocabulary) {
  for (const auto& [vocab, size] : {std::pair{65536, 2}, std::pair{65537, 4}}) {
    ShardWriter writer(at("a.ds"), origin(vocab));
    writer.append(Ids{0, static_cast<uint32_t>(vocab - 1)});
    writer.finish();
    const Shard shard(at("a.ds"), vocab);
    EXPECT_EQ(shard.token_size(), size);
    EXPECT_EQ(shard.tokens(), 2);
    EXPECT_EQ(shard.max_token_id(), vocab - 1);
  }
  EXPECT_EQ(nlohmann::json::parse(slurp(at("a.ds.json")))["eos"], "none");
}

TEST_F(ShardWriterTest, LargeShardsReadBack) {
  constexpr int kDocuments = 3000, kLength = 700;
  ShardWriter writer(at("a"), origin(50000));
  for (int d = 0; d < kDocuments; ++d) {
    Ids ids;
    for (int i = 0; i < kLength; ++i) ids.push_back(static_cast<uint32_t>((d * 31 + i) % 50000));
    writer.append(ids);
  }
  writer.finish();
  const Shard shard(at("a.ds"), 50000);
  ASSERT_EQ(shard.tokens(), kDocuments * kLength);
  EXPECT_TRUE(shard.verify_content());
  std::vector<int32_t> ids(kLength);
  for (int d = 0; d < kDocuments; d += 97) {
    shard.read(int64_t{d} * kLength, kLength, ids.data());
    for (int i = 0; i < kLength; ++i) ASSERT_EQ(ids[static_cast<size_t>(i)], (d * 31 + i) % 50000);
  }
  EXPECT_EQ(slurp(at("a.ds.metadata")), "org/name|2\n2100000\n2.10 MT");
}

TEST_F(ShardWriterTest, VerifyNoticesAFlippedBit) {
  ShardWriter writer(at("a"), origin(1000));
  writer.append(Ids(5000, 3));
  writer.finish();
  std::string bytes = slurp(at("a.ds"));
  bytes[4999] = static_cast<char>(bytes[4999] ^ 1);
  write("a.ds", bytes);
  expect_refusal(ExitCode::kBadData, {"a.ds", "content hash", "damaged"},
                 [&] { Shard(at("a.ds"), 1000).verify_content(); });
  write("a.ds.json", "[]");
  expect_refusal(ExitCode::kBadData, {"a.ds.json", "xxh3_128"},
                 [&] { Shard(at("a.ds"), 1000).verify_content(); });
  fs::remove(at("a.ds.json"));
  EXPECT_FALSE(Shard(at("a.ds"), 1000).verify_content());
}

TEST_F(ShardWriterTest, LeavesNothingBehindWhenItDoesNotFinish) {
  write("a.ds", "before");
  {
    ShardWriter writer(at("a"), origin(1000));
    writer.append(Ids(2 << 20, 3));
  }
  EXPECT_EQ(names(), std::vector<std::string>{"a.ds"});
  EXPECT_EQ(slurp(at("a.ds")), "before");
  ShardWriter empty(at("b"), origin(1000));
  expect_refusal(ExitCode::kBadData, {"b.ds", "tokens", "none"}, [&] { empty.finish(); });
  EXPECT_FALSE(fs::exists(at("b.ds")) || fs::exists(at("b.ds.index")));
}

TEST_F(ShardWriterTest, RefusesIdsOutsideTheVocabulary) {
  ShardWriter writer(at("a"), origin(1000));
  writer.append(Ids{1});
  expect_refusal(ExitCode::kBadData, {"document 1", "vocabulary size 1000", "got 1000"}, [&] {
    writer.append(Ids{999, 1000});
  });
  for (const int64_t vocab : {int64_t{0}, int64_t{-1}, int64_t{1} << 31})
    expect_refusal(ExitCode::kBadConfig, "vocabulary size",
                   [&] { ShardWriter(at("b"), origin(vocab)); });
  expect_refusal(ExitCode::kBadConfig, "eos id", [&] { ShardWriter(at("b"), origin(10, 10)); });
  expect_refusal(ExitCode::kUsage, "output prefix", [&] { ShardWriter(at("b/"), origin(10)); });
}

}  // namespace
}  // namespace data
