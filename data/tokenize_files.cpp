#include "data/tokenize_files.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/stop.h"

namespace data {
namespace {

namespace fs = std::filesystem;

// Enough text to keep threads busy, little enough to hold. A text may have more ids than bytes, if
// its tokenizer makes it longer or puts many ids around it: ids end a batch, too.
constexpr size_t kBatchBytes = size_t{4} << 20;
constexpr size_t kBatchDocuments = 4096;
constexpr size_t kBatchIds = size_t{4} << 20;

struct Encoded {
  std::vector<uint32_t> ids;
  std::exception_ptr error;
};

// Of the first texts, at least one; no more are begun when they have kBatchIds ids.
std::vector<Encoded> encode_batch(std::span<const std::string> texts, const Encoder& encoder,
                                  int threads) {
  std::vector<Encoded> results(texts.size());
  std::atomic<size_t> next = 0, ids = 0;
  const auto work = [&] {
    for (size_t i; ids < kBatchIds && (i = next.fetch_add(1)) < texts.size();) {
      try {
        core::throw_if_stopping();
        results[i].ids = encoder(texts[i]);
        ids += results[i].ids.size();
      } catch (...) {
        results[i].error = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    const int useful = static_cast<int>(std::min<size_t>(texts.size(), 1024));
    for (int t = 1; t < std::min(threads, useful); ++t) helpers.emplace_back(work);
    work();
  }
  results.resize(std::min(next.load(), texts.size()));  // what was begun is done
  return results;
}

class Tokenizing {
 public:
  Tokenizing(ShardWriter& writer, const Encoder& encoder, const TokenizeOptions& options)
      : writer_(writer), encoder_(encoder), options_(options) {}

  void add_file(TextReader& reader) {
    Document document;
    while (reader.next(document)) {
      batch_bytes_ += document.text.size();
      batch_.push_back(std::move(document.text));
      if (batch_bytes_ >= kBatchBytes || batch_.size() >= kBatchDocuments)
        write_batch(reader.input_read());
    }
    write_batch(reader.input_read());
    progress_.input_bytes += reader.input_size();
  }

  TokenizeProgress& progress() { return progress_; }

 private:
  void write_batch(uint64_t read_of_file) {
    std::span<const std::string> rest = batch_;
    do {
      const std::vector<Encoded> done = encode_batch(rest, encoder_, options_.threads);
      for (const Encoded& encoded : done) {
        if (encoded.error) std::rethrow_exception(encoded.error);
        writer_.append(encoded.ids);
      }
      rest = rest.subspan(done.size());
      report(read_of_file);
    } while (!rest.empty());
    batch_.clear();
    batch_bytes_ = 0;
  }

  void report(uint64_t read_of_file) {
    if (!options_.progress) return;
    TokenizeProgress now = progress_;
    now.input_bytes += read_of_file;
    now.documents = writer_.documents();
    now.tokens = writer_.tokens();
    options_.progress(now);
  }

  ShardWriter& writer_;
  const Encoder& encoder_;
  const TokenizeOptions& options_;
  TokenizeProgress progress_;  // of the files that are done
  std::vector<std::string> batch_;
  size_t batch_bytes_ = 0;
};

}  // namespace

TokenizeResult tokenize_files(std::span<const fs::path> inputs, const fs::path& prefix,
                              ShardOrigin origin, const Encoder& encoder,
                              const TokenizeOptions& options) {
  if (inputs.empty())
    core::fail(core::ExitCode::kUsage,
               {.field = "input", .expected = "at least one .jsonl or .txt file", .found = "none"});
  // Opened once before anything is written: a wrong name is no reason to lose an hour.
  uint64_t total = 0;
  origin.key = options.reader.key;
  origin.inputs.clear();
  for (const fs::path& input : inputs) {
    total += TextReader(input, options.reader).input_size();
    origin.inputs.push_back(input.filename().string());
  }
  ShardWriter writer(prefix, std::move(origin));
  Tokenizing tokenizing(writer, encoder, options);
  tokenizing.progress().input_total = total;
  for (const fs::path& input : inputs) {
    TextReader reader(input, options.reader);
    tokenizing.add_file(reader);
  }
  writer.finish();
  return {writer.path(), writer.documents(), writer.tokens(), writer.token_size()};
}

}  // namespace data
