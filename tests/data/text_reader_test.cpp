#include "data/text_reader.h"
#include "tests/support/refusal.h"

#include <zlib.h>
#include <zstd.h>

#include <fstream>

#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;

namespace fs = std::filesystem;
using core::ExitCode;
using Texts = std::vector<std::string>;

class TextReaderTest : public ShardFiles {
 protected:
  static Texts texts(const fs::path& path, TextReaderOptions options = {}) {
    TextReader reader(path, std::move(options));
    Texts all;
    for (Document document; reader.next(document);) all.push_back(document.text);
    EXPECT_EQ(reader.input_read(), reader.input_size());
    return all;
  }

  void refused(const std::string& name, const std::string& bytes,
               std::initializer_list<std::string> parts, TextReaderOptions options = {}) const {
    const fs::path path = write(name, bytes);
    expect_refusal(ExitCode::kBadData, parts, [&] { texts(path, options); });
  }
};

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()) + 8, '\0');
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);  // as the zstd program does
  out.resize(ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return out;
}

// Three lines, much longer than the reader's buffers, that hardly compress.
std::string long_lines() {
  std::string text;
  uint32_t state = 1;
  for (int line = 0; line < 3; ++line) {
    text += R"({"text":")";
    for (int i = 0; i < 700000; ++i) {
      state = state * 1664525 + 1013904223;
      text += static_cast<char>('a' + (state >> 24) % 26);
    }
    text += "\"}\n";
  }
  return text;
}

std::string times_over(size_t times, const std::string& text) {
  std::string all;
  while (times-- > 0) all += text;
  return all;
}

TEST_F(TextReaderTest, JsonLinesWithLineNumbers) {
  const fs::path path = write("a.jsonl",
                              "\xEF\xBB\xBF{\"text\":\"one\"}\r\n"
                              "\n"
                              "  \t\r\n"
                              "{\"id\":3,\"text\":\"t\\u00e9\\nwo\\u0000\"}\n"
                              "{\"text\":\"\"}\n"
                              "{\"text\":\"last \xEF\xBB\xBF line\"}");
  TextReader reader(path);
  Document document;
  std::vector<std::pair<int64_t, std::string>> all;
  while (reader.next(document)) {
    EXPECT_EQ(document.file, path.string());
    all.emplace_back(document.line, document.text);
  }
  const std::vector<std::pair<int64_t, std::string>> expected = {
      {1, "one"}, {4, std::string("t\xC3\xA9\nwo\0", 7)}, {5, ""}, {6, "last \xEF\xBB\xBF line"}};
  EXPECT_EQ(all, expected);
  EXPECT_FALSE(reader.next(document));
}

TEST_F(TextReaderTest, AnotherKey) {
  const fs::path path = write("a.jsonl", "{\"text\":\"no\",\"content\":\"yes\"}\n");
  EXPECT_EQ(texts(path, {.key = "content"}), Texts{"yes"});
}

TEST_F(TextReaderTest, TextFileIsOneDocumentKeptAsItIs) {
  EXPECT_EQ(texts(write("a.txt", "\xEF\xBB\xBFone\r\ntwo\n\n")), Texts{"one\r\ntwo\n\n"});
  EXPECT_EQ(texts(write("b.txt", "\n")), Texts{"\n"});
  EXPECT_EQ(texts(write("empty.txt", "")), Texts());
  EXPECT_EQ(texts(write("mark.txt", "\xEF\xBB\xBF")), Texts());
  EXPECT_EQ(texts(write("empty.jsonl", "")), Texts());
  EXPECT_EQ(texts(write("blank.jsonl", "\n \r\n")), Texts());
}

TEST_F(TextReaderTest, CompressedFilesReadTheSame) {
  const std::string lines = long_lines();
  const Texts plain = texts(write("a.jsonl", lines));
  ASSERT_EQ(plain.size(), 3u);
  EXPECT_EQ(plain[2].size(), 700000u);
  EXPECT_EQ(texts(write("a.jsonl.gz", gzip(lines))), plain);
  EXPECT_EQ(texts(write("a.jsonl.zst", zstd(lines))), plain);
  EXPECT_EQ(texts(write("b.txt.gz", gzip(lines))), Texts{lines});
  EXPECT_EQ(texts(write("b.txt.zst", zstd(lines))), Texts{lines});
  // What decompresses to much more than the input buffers hold.
  const std::string dense(3000000, 'x');
  EXPECT_EQ(texts(write("c.txt.gz", gzip(dense))), Texts{dense});
  const std::string less_dense = times_over(30, lines.substr(0, 100'000));
  EXPECT_EQ(texts(write("c.txt.zst", zstd(less_dense))), Texts{less_dense});
}

TEST_F(TextReaderTest, SeveralMembersOrFramesFollowEachOther) {
  const std::string one = "{\"text\":\"on", two = "e\"}\n{\"text\":\"two\"}\n";
  const Texts expected = {"one", "two"};
  EXPECT_EQ(texts(write("a.jsonl.gz", gzip(one) + gzip("") + gzip(two))), expected);
  EXPECT_EQ(texts(write("a.jsonl.zst", zstd(one) + zstd("") + zstd(two))), expected);
}

TEST_F(TextReaderTest, RefusesTruncatedAndDamagedStreams) {
  const std::string lines = long_lines();
  for (const auto& [name, bytes] :
       {std::pair{"a.jsonl.gz", gzip(lines)}, std::pair{"a.jsonl.zst", zstd(lines)}}) {
    const std::string format = std::string(name).ends_with("gz") ? "gzip" : "zstd";
    for (const size_t kept : {size_t{0}, size_t{3}, bytes.size() / 2, bytes.size() - 1})
      refused(name, bytes.substr(0, kept), {name, format, "ends inside the stream"});
    refused(name, bytes.substr(0, bytes.size() / 2), {std::string(name) + ":2: error:"});
    std::string flipped = bytes;
    flipped[bytes.size() / 2] = static_cast<char>(flipped[bytes.size() / 2] ^ 0x55);
    const fs::path path = write(name, flipped);
    EXPECT_THROW(texts(path), core::Error) << name;
    refused(name, bytes + "garbage", {format});
    refused(name, "plain text", {":1: error:", format});
  }
}

TEST_F(TextReaderTest, RefusesCompressedContentUnderAPlainName) {
  refused("a.txt", gzip("text"), {"a.txt", "looks like gzip (1f 8b)", ".gz"});
  refused("a.jsonl", zstd("text"), {"looks like zstd"});
  refused("b.txt", "PK\x03\x04 and more", {"looks like zip"});
  refused("b.jsonl", "PAR1\x15\x04", {"looks like parquet"});
  EXPECT_EQ(texts(write("c.txt", "PK or PAR1")), Texts{"PK or PAR1"});
}

TEST_F(TextReaderTest, RefusesBadLines) {
  const std::string good = "{\"text\":\"good\"}\n";
  const std::string at_2 = "a.jsonl:2:";
  refused("a.jsonl", good + "{\"text\":\"no end\n", {at_2, "JSON"});
  refused("a.jsonl", good + "{\"text\":\"a\"} {\"text\":\"b\"}\n", {at_2, "JSON"});
  refused("a.jsonl", good + "{\"text\":NaN}\n", {at_2, "JSON"});
  refused("a.jsonl", good + "{\"text\":\"\\ud800\"}\n", {at_2, "JSON"});
  refused("a.jsonl", good + "{\"text\":\"a\",\"text\":\"b\"}\n", {at_2, "duplicate key"});
  refused("a.jsonl", good + std::string(100000, '[') + "\n", {at_2, "nesting"});
  refused("a.jsonl", good + "[1]\n", {at_2, "an object", "array"});
  refused("a.jsonl", good + "{\"text\":12}\n", {at_2, "text: expected a string, got number"});
  refused("a.jsonl", good + "{\"text\":null}\n", {at_2, "got null"});
  refused("a.jsonl", good + "{\"content\":\"x\",\"id\":1}\n",
          {at_2, "text: expected a string", "only keys content, id", "--key"});
  refused("a.jsonl", good + "{}\n", {at_2, "no keys"});
  refused("a.jsonl", "{\"text\":\"a\"}\r{\"text\":\"b\"}\r", {"a.jsonl:1:", "JSON"});
  refused("a.jsonl", good + "{\"text\": \"" + std::string(100000, 'x') + "\n", {at_2, "..."});
}

TEST_F(TextReaderTest, RefusesTextThatIsNotUtf8) {
  refused("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"caf\xE9\"}\n",
          {"a.jsonl:2:", "UTF-8", "0xe9 at offset 12"});
  refused("a.txt", "one\ntwo \xC0\x80", {"a.txt:2:", "0xc0 at offset 8"});
  refused("a.txt", "\xED\xA0\x80", {"a.txt:1:", "0xed at offset 0"});
  refused("a.txt", "cut \xE2\x82", {"a.txt:1:", "0xe2"});
}

TEST_F(TextReaderTest, LimitsTheDocumentNotTheFile) {
  const TextReaderOptions ten = {.key = "text", .max_document_bytes = 12};
  EXPECT_EQ(texts(write("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n"), ten),
            Texts({"a", "b"}));
  refused("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"bc\"}\n", {"a.jsonl:2:", "at most 12 bytes"},
          ten);
  EXPECT_EQ(texts(write("a.txt", std::string(12, 'x')), ten).size(), 1u);
  refused("a.txt", std::string(13, 'x'), {"a.txt:1:", "at most 12 bytes"}, ten);
  // 64 MiB of one letter in 2 KiB: refused at the limit, not unpacked.
  refused("bomb.txt.zst", zstd(std::string(64 << 20, 'x')), {"at most 12 bytes"}, ten);
}

TEST_F(TextReaderTest, ZstdMayNotBecomeAnything) {
  const std::string small(1 << 20, 'x');  // in 60 bytes, but harmless
  EXPECT_EQ(texts(write("a.txt.zst", zstd(small))), Texts{small});
  const std::string large(64 << 20, 'x');
  refused("a.txt.zst", zstd(large),
          {"a.txt.zst:1: error: zstd: expected at most 2048 bytes of text per byte, got ",
           "decompress the file first"});
  EXPECT_EQ(texts(write("a.txt.gz", gzip(large))), Texts{large}) << "gzip has a limit of its own";
  // All of the file counts, not one document; frames do not begin anew.
  refused("a.jsonl.zst", zstd(times_over(1 << 20, "{\"text\":\"a\"}\n")), {"2048 bytes of text"});
  refused("b.txt.zst", times_over(4, zstd(small)), {"2048 bytes of text"});
  const std::string noise = long_lines();
  EXPECT_EQ(texts(write("b.txt.zst", zstd(noise) + zstd(large))), Texts{noise + large})
      << "half of the file for it all is no bomb";
}

TEST_F(TextReaderTest, RefusesFilesThatChangeWhileTheyAreRead) {
  const fs::path path = write("a.jsonl", long_lines());
  TextReader reader(path);
  Document document;
  ASSERT_TRUE(reader.next(document));
  std::ofstream(path, std::ios::app) << "{\"text\":\"more\"}\n";
  expect_refusal(ExitCode::kBadData, {"a.jsonl", "written to while it was read"}, [&] {
    while (reader.next(document)) {
    }
  });
}

TEST_F(TextReaderTest, RefusesOtherNamesAndMissingFiles) {
  refused("a.parquet", "x", {"file name", ".jsonl or .txt", "a.parquet"});
  refused("a.gz", gzip("x"), {"file name"});
  refused("a.json", "{}", {"file name"});
  expect_refusal(ExitCode::kMissingInput, "no.jsonl", [&] { TextReader(at("no.jsonl")); });
  fs::create_directory(at("folder.txt"));
  expect_refusal(ExitCode::kMissingInput, "regular file", [&] { TextReader(at("folder.txt")); });
}

}  // namespace
}  // namespace data
