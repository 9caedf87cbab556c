// Speed and round trip of tokenizers on a text of yours: MB/s of encoding with one and two threads,
// and whether decoding gives the text back.
//   build/release/bench/tokenizer_bench TEXT.jsonl [--tokenizer FOLDER ...] [--megabytes 10]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "core/seconds.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace {

using Clock = std::chrono::steady_clock;
using Ids = std::vector<uint32_t>;

// Documents until they have `bytes` together.
std::vector<std::string> read_texts(const std::string& file, size_t bytes) {
  data::TextReader reader(file);
  std::vector<std::string> texts;
  size_t total = 0;
  for (data::Document document; total < bytes && reader.next(document);) {
    total += document.text.size();
    texts.push_back(std::move(document.text));
  }
  return texts;
}

double seconds_to_encode(const data::Tokenizer& tokenizer, const std::vector<std::string>& texts,
                         int threads, std::vector<Ids>& ids) {
  ids.assign(texts.size(), {});
  std::atomic<size_t> next = 0;
  const auto start = Clock::now();
  {
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
      workers.emplace_back([&] {
        for (size_t i; (i = next.fetch_add(1)) < texts.size();)
          ids[i] = tokenizer.encode(texts[i], false);
      });
  }
  return core::seconds_since(start);
}

// Documents whose ids do not decode to them, and of those the ones whose decoded text has other
// ids: a normalizer may change a text, but only once.
struct RoundTrip {
  size_t changed = 0, unstable = 0;
};

RoundTrip round_trip(const data::Tokenizer& tokenizer, const std::vector<std::string>& texts,
                     const std::vector<Ids>& ids) {
  RoundTrip result;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string decoded = tokenizer.decode(ids[i], false);
    if (decoded == texts[i]) continue;
    ++result.changed;
    result.unstable += tokenizer.encode(decoded, false) != ids[i];
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and round trip of tokenizers");
  std::string file;
  std::vector<std::string> tokenizers;
  double megabytes = 10;
  int repeats = 3;
  for (const char* name : {"gpt2", "smollm", "llama3", "qwen2", "llama2"})
    tokenizers.push_back(fmt::format("tests/data_files/tokenizer-{}", name));
  app.add_option("TEXT", file, ".jsonl or .txt, plain, .gz or .zst")->required();
  app.add_option("--tokenizer", tokenizers, "folders or files of tokenizer.json");
  app.add_option("--megabytes", megabytes, "of the text, whole documents")
      ->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats, "of which the fastest counts")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    const auto texts = read_texts(file, static_cast<size_t>(megabytes * 1e6));
    size_t bytes = 0;
    for (const std::string& text : texts) bytes += text.size();
    fmt::print("{:.1f} MB in {} documents\n{:<18} {:>12} {:>12} {:>8} {:>12}  {}\n",
               static_cast<double>(bytes) / 1e6, texts.size(), "tokenizer", "MB/s, 1", "MB/s, 2",
               "ratio", "bytes/token", "round trip");
    bool all_stable = true;
    for (const std::string& path : tokenizers) {
      const auto tokenizer = data::Tokenizer::load(path);
      std::vector<Ids> ids;
      double seconds[2] = {1e300, 1e300};
      for (int r = 0; r < repeats; ++r)
        for (const int threads : {1, 2})
          seconds[threads - 1] =
              std::min(seconds[threads - 1], seconds_to_encode(tokenizer, texts, threads, ids));
      size_t tokens = 0;
      for (const Ids& each : ids) tokens += each.size();
      const RoundTrip trip = round_trip(tokenizer, texts, ids);
      all_stable = all_stable && trip.unstable == 0;
      const auto size = static_cast<double>(bytes);
      fmt::print(
          "{:<18} {:12.2f} {:12.2f} {:8.2f} {:12.2f}  {}\n",
          std::filesystem::path(path).filename().string(), size / seconds[0] / 1e6,
          size / seconds[1] / 1e6, seconds[0] / seconds[1], size / static_cast<double>(tokens),
          trip.changed == 0
              ? std::string("exact")
              : fmt::format("{} normalized, {} of them not stable", trip.changed, trip.unstable));
    }
    return all_stable ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
