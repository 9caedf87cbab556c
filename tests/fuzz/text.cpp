// Documents of .jsonl and .txt, plain, .gz and .zst: u8 format, u8 size of a read, then the file.
// Oracle for plain JSON lines: cut at line ends and parsed one by one.
#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/text_reader.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr const char* kNames[] = {"x.jsonl",  "x.txt",       "x.jsonl.gz",
                                  "x.txt.gz", "x.jsonl.zst", "x.txt.zst"};
constexpr uint64_t kMaxDocument = uint64_t{1} << 20;

// A file in memory, handed out in pieces of at most `step` bytes.
class Pieces : public data::StoredBytes {
 public:
  Pieces(std::string bytes, size_t step) : bytes_(std::move(bytes)), step_(step) {}
  size_t read(char* out, size_t capacity) override {
    const size_t n = std::min({capacity, step_, bytes_.size() - done_});
    std::memcpy(out, bytes_.data() + done_, n);
    done_ += n;
    return n;
  }
  uint64_t size() const override { return bytes_.size(); }
  uint64_t done() const override { return done_; }

 private:
  std::string bytes_;
  size_t step_, done_ = 0;
};

void check_lines(std::string file, const std::vector<data::Document>& documents, bool all) {
  if (file.starts_with("\xEF\xBB\xBF")) file.erase(0, 3);
  size_t count = 0;
  int64_t number = 0;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    const std::string line = file.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (count == documents.size()) break;
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    fuzz::require(object.is_object() && object.at("text") == documents[count].text,
                  "the text of the line");
    fuzz::require(documents[count].line == number, "the number of the line");
    ++count;
    if (count == documents.size() && !all) return;
  }
  fuzz::require(count == documents.size(), "a document per line");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const size_t format = input.number(1) % std::size(kNames);
  const size_t step = input.number(1) + 1;
  const std::string file = input.rest();
  std::vector<data::Document> documents;
  const bool all = fuzz::accepts([&] {
    data::TextReader reader(kNames[format], std::make_unique<Pieces>(file, step),
                            {.max_document_bytes = kMaxDocument});
    for (data::Document document; reader.next(document);) documents.push_back(document);
    fuzz::require(reader.input_read() == reader.input_size(), "all of the file is read");
  });
  size_t total = 0;
  for (const data::Document& document : documents) {
    total += document.text.size();
    fuzz::require(document.text.size() <= kMaxDocument, "documents are bounded");
    fuzz::require(core::find_invalid_utf8(document.text) == std::string::npos, "text is UTF-8");
  }
  if (format == 1 && all)
    fuzz::require(total == file.size() - (file.starts_with("\xEF\xBB\xBF") ? 3 : 0),
                  "a text is the whole file");
  if (format == 0) check_lines(file, documents, all);
  return 0;
}
