#include "data/shard.h"
#include "tests/support/refusal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "core/io.h"
#include "data/nanoset.h"
#include "data/shard_set.h"
#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;

namespace fs = std::filesystem;
using core::ExitCode;
using ShardTest = ShardFiles;

TEST_F(ShardTest, ReadsTwoAndFourByteIds) {
  const Shard narrow(write_words<uint16_t>("a.ds", {7, 65535, 3}), 65536);
  EXPECT_EQ(narrow.tokens(), 3);
  EXPECT_EQ(narrow.token_size(), 2);
  EXPECT_EQ(narrow.max_token_id(), 65535);
  const Shard wide(write_words<uint32_t>("b.ds", {70000, 1, 2, 3}), 151936);
  EXPECT_EQ(wide.token_size(), 4);
  int32_t ids[3];
  wide.read(0, 3, ids);
  EXPECT_EQ(ids[0], 70000);
  EXPECT_EQ(ids[2], 2);
  narrow.read(1, 2, ids);
  EXPECT_EQ(ids[0], 65535);
  EXPECT_EQ(ids[1], 3);
}

TEST_F(ShardTest, MetadataDecidesTheTokenSize) {
  const fs::path path = write_words<uint32_t>("a.ds", {5, 6});
  write("a.ds.metadata", "org/name|with|bars|4\n2\n2.00 T");
  EXPECT_EQ(Shard(path, 1000).token_size(), 4);
  EXPECT_EQ(Shard(path).tokens(), 2);
  write("a.ds.metadata", "Unknown Tokenizer|2|2\r\n4\r\n4.00 T");
  EXPECT_EQ(Shard(path, 1000).tokens(), 4);
}

TEST_F(ShardTest, RefusesMissingEmptyAndCutFiles) {
  expect_refusal(ExitCode::kMissingInput,
                 {"no.ds", "mha2mla tokenize --tokenizer MODEL --out", "no INPUT"},
                 [&] { Shard(at("no.ds"), 100); });
  expect_refusal(ExitCode::kBadData, {"empty.ds", "an empty shard"},
                 [&] { Shard(write("empty.ds", ""), 100); });
  expect_refusal(ExitCode::kBadData, {"odd.ds", "multiple of the token size 2", "3 bytes"},
                 [&] { Shard(write("odd.ds", "abc"), 100); });
  expect_refusal(ExitCode::kBadData, {"six.ds", "multiple of the token size 4", "6 bytes"},
                 [&] { Shard(write("six.ds", "abcdef"), 70000); });
  expect_refusal(ExitCode::kBadData, {"token size", "known vocabulary size"},
                 [&] { Shard(write("plain.ds", "abcd")); });
  fs::create_directory(at("folder.ds"));
  expect_refusal(ExitCode::kMissingInput, "regular file", [&] { Shard(at("folder.ds"), 100); });
}

TEST_F(ShardTest, RefusesTwoByteShardOfALargeVocabulary) {
  const fs::path path = write_run("a.ds", 0, 4);
  write("a.ds.metadata", "t|2\n4\n4.00 T");
  expect_refusal(ExitCode::kBadData, {"a.ds", "4 bytes for a vocabulary of 151936", "got 2"},
                 [&] { Shard(path, 151936); });
}

TEST_F(ShardTest, RefusesBrokenMetadata) {
  const fs::path path = write_run("a.ds", 0, 4);
  const auto refused = [&](const std::string& text, std::initializer_list<std::string> parts) {
    write("a.ds.metadata", text);
    expect_refusal(ExitCode::kBadData, parts, [&] { Shard(path, 100); });
  };
  refused("", {"a.ds.metadata:1:", "token size"});
  refused("name\n4", {":1:", "token size", "\"name\""});
  refused("name|3\n4", {":1:", "\"name|3\""});
  refused("name|2x\n4", {":1:"});
  refused("name|99999999999999999999999\n4", {":1:"});
  refused("name|2\n", {":2:", "a number of tokens"});
  refused("name|2\n-4", {":2:", "\"-4\""});
  refused("name|2\n5", {":2:", "expected 4 (size of the .ds), got 5"});
}

TEST_F(ShardTest, RefusesBrokenIndex) {
  const fs::path path = write_run("a.ds", 0, 10);
  const auto refused = [&](const std::vector<uint64_t>& ends,
                           std::initializer_list<std::string> parts) {
    write_words("a.ds.index", ends);
    expect_refusal(ExitCode::kBadData, parts, [&] { Shard(path, 100); });
  };
  write_words<uint64_t>("a.ds.index", {3, 3, 10});
  EXPECT_EQ(Shard(path, 100).tokens(), 10);
  refused({3, 2, 10}, {"a.ds.index:byte 8:", "an end >= 3", "got 2"});
  refused({3, 9}, {"byte 8", "10 (tokens in the .ds)", "got 9"});
  refused({3, 11}, {"byte 8", "got 11"});
  refused({}, {"8 bytes per document", "0 bytes"});
  write("a.ds.index", "123456789");
  expect_refusal(ExitCode::kBadData, "9 bytes", [&] { Shard(path, 100); });
}

TEST_F(ShardTest, NamesFilesBesideItThatCannotBeExamined) {
  const fs::path path = write_run("a.ds", 0, 4);
  for (const char* name : {"a.ds.index", "a.ds.metadata"}) {
    fs::create_symlink(name, at(name));  // to itself
    expect_refusal(ExitCode::kMissingInput, {name, "stat"}, [&] { Shard(path, 100); });
    fs::remove(at(name));
  }
  const Shard shard(path, 100);
  fs::create_symlink("a.ds.json", at("a.ds.json"));
  expect_refusal(ExitCode::kMissingInput, {"a.ds.json", "stat"}, [&] { shard.verify_content(); });
  // A name that leaves no room for the suffix.
  const fs::path longest = write_run(std::string(250, 'n') + ".ds", 0, 4);
  expect_refusal(ExitCode::kIo, {"n.ds.metadata", "stat", "name too long"},
                 [&] { Shard(longest, 100); });
}

TEST_F(ShardTest, RefusesRecordsThatAreNone) {
  const Shard shard(write_run("a.ds", 0, 4), 100);
  const auto refused = [&](const std::string& hash, const std::string& found) {
    write("a.ds.json", "{\"xxh3_128\":\"" + hash + "\"}");
    expect_refusal(
        ExitCode::kBadData,
        "a.ds.json: error: xxh3_128: expected 32 hexadecimal digits, got \"" + found + "\"",
        [&] { shard.verify_content(); });
  };
  refused("", "");
  refused(std::string(31, '0'), std::string(31, '0'));
  refused(std::string(31, '0') + "A", std::string(31, '0') + "A");
  refused(std::string(1 << 20, '0'), std::string(80, '0'));
  fs::resize_file(at("a.ds.json"), (16 << 20) + 1);
  expect_refusal(ExitCode::kBadData, {"a.ds.json: error: size: expected at most 16777216 bytes"},
                 [&] { shard.verify_content(); });
}

TEST_F(ShardTest, NamesTheFirstIdOutsideTheVocabulary) {
  const fs::path path = write_words<uint16_t>("a.ds", {1, 99, 100, 101});
  const std::initializer_list<std::string> parts = {"a.ds:token 2:", "vocabulary size 100",
                                                    "got 100"};
  const Shard shard(path, 100);
  expect_refusal(ExitCode::kBadData, parts, [&] { shard.check_vocab(100); });
  EXPECT_NO_THROW(shard.check_vocab(102));
  int32_t ids[3];
  EXPECT_NO_THROW(shard.read(0, 2, ids));
  expect_refusal(ExitCode::kBadData, parts, [&] { shard.read(1, 3, ids); });
  write("b.ds.metadata", "t|4\n1\n");
  const Shard wide(write_words<uint32_t>("b.ds", {0x80000000u}));
  expect_refusal(ExitCode::kBadData, {"token 0", "2147483648"}, [&] { wide.read(0, 1, ids); });
}

TEST_F(ShardTest, RefusesRangesOutsideTheShard) {
  const Shard shard(write_run("a.ds", 0, 4), 100);
  int32_t ids[8];
  EXPECT_NO_THROW(shard.read(4, 0, ids));
  const std::vector<std::pair<int64_t, int64_t>> ranges = {
      {0, 5}, {-1, 2}, {4, 1}, {2, -1}, {INT64_MAX, INT64_MAX}};
  for (const auto& [begin, count] : ranges)
    expect_refusal(ExitCode::kInternal, "token range", [&] { shard.read(begin, count, ids); });
}

TEST_F(ShardTest, NoticesAFileThatChangesDuringTheRun) {
  const fs::path path = write_run("a.ds", 0, 4);
  const Shard shard(path, 100);
  int32_t ids[4];
  shard.read(0, 4, ids);
  fs::resize_file(path, 2);  // reading the map now would be a bus error
  expect_refusal(ExitCode::kBadData, {"a.ds", "8 bytes", "a changed file of 2 bytes"},
                 [&] { shard.read(0, 4, ids); });
  fs::resize_file(path, 8);
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(5));
  expect_refusal(ExitCode::kBadData, "a changed file", [&] { shard.read(0, 4, ids); });
}

TEST_F(ShardTest, FingerprintKnowsSizeHeadAndTail) {
  std::vector<uint16_t> ids(3 << 20, 1);
  const std::string original = Shard(write_words("a.ds", ids), 100).fingerprint();
  EXPECT_EQ(Shard(write_words("b.ds", ids), 100).fingerprint(), original);
  ids.back() = 2;
  EXPECT_NE(Shard(write_words("c.ds", ids), 100).fingerprint(), original);
  ids.back() = 1;
  ids.push_back(1);
  EXPECT_NE(Shard(write_words("d.ds", ids), 100).fingerprint(), original);
}

TEST_F(ShardTest, FolderIsReadInDatatroveOrder) {
  for (const char* name : {"00003.ds", "00000.ds", "00004.ds", "00001.ds", "00002.ds"})
    write_run(name, 0, 4);
  write("00000.ds.index", "ignored here");
  write_run("sub/00000.ds", 0, 4);
  std::vector<std::string> order;
  for (const fs::path& path : list_shards(folder_)) order.push_back(path.filename());
  EXPECT_EQ(order,
            std::vector<std::string>({"00004.ds", "00002.ds", "00003.ds", "00001.ds", "00000.ds"}));
  EXPECT_EQ(list_shards(at("00003.ds")), std::vector<fs::path>{at("00003.ds")});
}

TEST_F(ShardTest, FoldersWithoutShardsSayWhatToRun) {
  const std::string command = "run: mha2mla tokenize --tokenizer MODEL --out ";
  expect_refusal(ExitCode::kMissingInput, {"none", command + at("none").string() + " INPUT..."},
                 [&] { list_shards(at("none")); });
  fs::create_directory(at("empty"));
  expect_refusal(ExitCode::kMissingInput, {"no .ds file", command},
                 [&] { list_shards(at("empty")); });
  for (const char* name : {"train.parquet", "train.jsonl", "train.jsonl.zst", "train.txt.gz"}) {
    const fs::path file = write(std::string("raw-") + name + "/" + name, "x");
    expect_refusal(ExitCode::kMissingInput, {"raw text", command},
                   [&] { list_shards(file.parent_path()); });
    expect_refusal(ExitCode::kMissingInput, {"raw text", command}, [&] { list_shards(file); });
  }
  write_run("prose.ds", 0, 4);
  expect_refusal(ExitCode::kMissingInput, {"did you mean", "prose.ds?"},
                 [&] { list_shards(at("prose")); });
  expect_refusal(ExitCode::kBadData, "x.bin", [&] { list_shards(write("x.bin", "ab")); });
}

// Fails every listing of a folder.
class BrokenFolders : public core::io::Observer {
 public:
  BrokenFolders() : earlier_(core::io::install_observer(this)) {}
  ~BrokenFolders() override { core::io::install_observer(earlier_); }
  core::io::Verdict before(const core::io::Call& call) override {
    return {.error_number = call.operation == core::io::Operation::list ? EIO : 0};
  }
  void after(const core::io::Call&, int64_t) override {}

 private:
  core::io::Observer* earlier_;
};

TEST_F(ShardTest, NamesFoldersThatCannotBeListed) {
  write_run("set/a.ds", 0, 4);
  const BrokenFolders broken;
  expect_refusal(ExitCode::kIo, {"set: error: list folder"}, [&] { list_shards(at("set")); });
}

// /proc has a name for every open file, also when the file has none any more.
TEST_F(ShardTest, NamesAShardWhosePlaceIsUnknown) {
  const fs::path path = write_run("a.ds", 0, 10);
  const int fd = ::open(path.c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  fs::remove(path);
  fs::create_symlink("/proc/self/fd/" + std::to_string(fd), at("b.ds"));
  expect_refusal(ExitCode::kMissingInput, {"b.ds: error: resolve"}, [&] {
    Nanoset(
        {.folders = {at("b.ds")}, .sequence_length = 4, .vocab_size = 100, .samples_needed = 1});
  });
  ::close(fd);
}

TEST_F(ShardTest, WindowsGoFileByFileWithoutTails) {
  write_run("set/a.ds", 100, 7);           // 2 windows of 3, one token dropped
  write_run("set/b.ds", 200, 2);           // none
  write_run("set/c.ds", 300, 3);           // 1
  const ShardSet set(at("set"), 3, 1000);  // order of three files: c, b, a
  ASSERT_EQ(set.windows(), 3);
  EXPECT_EQ(set.tokens(), 12);
  const std::vector<std::vector<int32_t>> expected = {
      {300, 301, 302}, {100, 101, 102}, {103, 104, 105}};
  for (int64_t i = 0; i < 3; ++i) {
    std::vector<int32_t> ids(3);
    set.read(i, ids.data());
    EXPECT_EQ(ids, expected[static_cast<size_t>(i)]);
  }
  int32_t ids[3];
  expect_refusal(ExitCode::kInternal, "below 3", [&] { set.read(3, ids); });
  expect_refusal(ExitCode::kInternal, "-1", [&] { set.read(-1, ids); });
}

TEST_F(ShardTest, RefusesASetWithoutOneWindow) {
  expect_refusal(ExitCode::kBadData, {"a.ds", "at least 1025", "got 900"},
                 [&] { ShardSet(write_run("a.ds", 0, 900), 1025, 1000); });
  expect_refusal(ExitCode::kBadConfig, "window", [&] { ShardSet(at("a.ds"), 0, 1000); });
}

}  // namespace
}  // namespace data
