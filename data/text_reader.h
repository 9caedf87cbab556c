// Documents of .jsonl and .txt files, plain, .gz or .zst, one at a time.
//   .jsonl  one JSON object per line; the document is the string under `key`. Blank lines are
//           skipped; lines end in LF or CR LF.
//   .txt    the whole file is one document, its bytes kept as they are.
// A byte order mark at the start of a file is dropped. Text must be valid UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/byte_source.h"

namespace data {

struct TextReaderOptions {
  std::string key = "text";                           // of .jsonl
  uint64_t max_document_bytes = uint64_t{256} << 20;  // of a .txt file or a .jsonl line
};

struct Document {
  std::string text;
  std::string file;
  int64_t line = 1;  // where it starts
};

class TextReader {
 public:
  // Throws kMissingInput / kPermission / kBadData as open_byte_source does, kBadData when the name
  // is neither .jsonl nor .txt (with or without .gz or .zst).
  explicit TextReader(const std::filesystem::path& path, TextReaderOptions options = {});

  // The same over stored bytes; `path` names them and tells their format.
  TextReader(const std::filesystem::path& path, std::unique_ptr<StoredBytes> stored,
             TextReaderOptions options);

  // The next document, false at the end. Throws kBadData naming file and line for text that is too
  // long or not UTF-8, lines that are not JSON or lack the key, and compressed data that is damaged
  // or holds more than 2,048 times its size. Holds one document and a fixed buffer in memory.
  bool next(Document& document);

  // Progress in bytes of the file on disk.
  uint64_t input_size() const { return source_->input_size(); }
  uint64_t input_read() const { return source_->input_read(); }

 private:
  bool refill();
  void append(std::string& text, size_t count);
  bool next_file(Document& document);
  bool next_line(std::string& line);
  std::string text_of(const std::string& line) const;
  void drop_byte_order_mark(std::string& text) const;
  void check_utf8(const std::string& text) const;
  [[noreturn]] void refuse(const std::string& field, const std::string& expected,
                           const std::string& found, const std::string& hint = {}) const;

  std::filesystem::path path_;
  TextReaderOptions options_;
  std::unique_ptr<ByteSource> source_;
  bool json_lines_;
  int64_t line_ = 0;  // of the text being read, from 1
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // unread part of buffer_
};

}  // namespace data
