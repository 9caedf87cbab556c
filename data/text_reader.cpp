#include "data/text_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr size_t kBuffer = size_t{1} << 16;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Whether the text inside is JSON lines, decided by the name without its compression suffix.
bool holds_json_lines(const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name.replace_extension();
  if (name.extension() == ".jsonl") return true;
  if (name.extension() == ".txt") return false;
  core::fail(ExitCode::kBadData, {.path = path,
                                  .field = "file name",
                                  .expected = ".jsonl or .txt, or .gz or .zst of both",
                                  .found = fmt::format("\"{}\"", path.filename().string())});
}

// A message about a document may quote it; an error is one readable line.
std::string shortened(const std::string& message) {
  constexpr size_t kMost = 400;
  if (message.size() <= kMost) return message;
  size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;
  return message.substr(0, end) + "...";
}

}  // namespace

TextReader::TextReader(const fs::path& path, TextReaderOptions options)
    : path_(path),
      options_(std::move(options)),
      source_(open_byte_source(path)),
      json_lines_(holds_json_lines(path)),
      buffer_(kBuffer) {}

TextReader::TextReader(const fs::path& path, std::unique_ptr<StoredBytes> stored,
                       TextReaderOptions options)
    : path_(path),
      options_(std::move(options)),
      source_(make_byte_source(path, std::move(stored))),
      json_lines_(holds_json_lines(path)),
      buffer_(kBuffer) {}

void TextReader::refuse(const std::string& field, const std::string& expected,
                        const std::string& found, const std::string& hint) const {
  core::fail(ExitCode::kBadData, {.path = path_,
                                  .place = std::to_string(line_),
                                  .field = field,
                                  .expected = expected,
                                  .found = found,
                                  .hint = hint});
}

bool TextReader::refill() {
  try {
    begin_ = 0;
    end_ = source_->read(buffer_.data(), buffer_.size());
  } catch (const BadStream& bad) {
    refuse(bad.format, bad.expected, bad.found, bad.hint);
  }
  return end_ > 0;
}

void TextReader::append(std::string& text, size_t count) {
  if (count > options_.max_document_bytes - text.size())
    refuse("document size", fmt::format("at most {} bytes", options_.max_document_bytes),
           "a longer one", "split the document");
  text.append(buffer_.data() + begin_, count);
  begin_ += count;
}

void TextReader::drop_byte_order_mark(std::string& text) const {
  if (line_ == 1 && text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
}

void TextReader::check_utf8(const std::string& text) const {
  const size_t bad = core::find_invalid_utf8(text);
  if (bad == std::string::npos) return;
  const auto line = line_ + std::count(text.begin(), text.begin() + static_cast<long>(bad), '\n');
  core::fail(ExitCode::kBadData, {.path = path_,
                                  .place = std::to_string(line),
                                  .field = "encoding",
                                  .expected = "UTF-8",
                                  .found = fmt::format("byte 0x{:02x} at offset {} of the {}",
                                                       static_cast<unsigned char>(text[bad]), bad,
                                                       json_lines_ ? "line" : "text"),
                                  .hint = "convert the file to UTF-8"});
}

bool TextReader::next_file(Document& document) {
  if (line_ > 0) return false;
  line_ = 1;
  document.text.clear();
  while (refill()) append(document.text, end_);
  drop_byte_order_mark(document.text);
  check_utf8(document.text);
  document.line = 1;
  return !document.text.empty();
}

bool TextReader::next_line(std::string& line) {
  line.clear();
  ++line_;
  bool any = false;
  while (begin_ < end_ || refill()) {
    any = true;
    const char* from = buffer_.data() + begin_;
    const void* found = std::memchr(from, '\n', end_ - begin_);
    if (found == nullptr) {
      append(line, end_ - begin_);
      continue;
    }
    append(line, static_cast<size_t>(static_cast<const char*>(found) - from));
    ++begin_;
    return true;
  }
  return any;
}

std::string TextReader::text_of(const std::string& line) const {
  nlohmann::json object;
  try {
    object = core::parse_json(fmt::format("{}:{}", path_.string(), line_), line);
  } catch (const core::Error& error) {
    throw core::Error(error.code(), shortened(error.what()));
  }
  if (!object.is_object()) refuse("JSON", "an object", object.type_name());
  const auto text = object.find(options_.key);
  if (text == object.end()) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.push_back(key);
    const std::string all = fmt::format("{}", fmt::join(keys, ", "));
    refuse(options_.key, "a string",
           shortened(all.empty() ? "no keys" : fmt::format("only keys {}", all)),
           "name the key of the text with --key");
  }
  if (!text->is_string()) refuse(options_.key, "a string", text->type_name());
  return std::move(text->get_ref<std::string&>());
}

bool TextReader::next(Document& document) {
  document.file = path_.string();
  if (!json_lines_) return next_file(document);
  std::string line;
  while (next_line(line)) {
    drop_byte_order_mark(line);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    check_utf8(line);
    document.text = text_of(line);
    document.line = line_;
    return true;
  }
  return false;
}

}  // namespace data
