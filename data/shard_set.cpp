#include "data/shard_set.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "data/numpy_random.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr uint64_t kFileOrderSeed = 42;  // datatrove's

bool is_raw_text(const fs::path& path) {
  const std::string name = path.filename();
  for (const std::string_view suffix : {".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt",
                                        ".txt.gz", ".txt.zst", ".json", ".arrow"})
    if (name.ends_with(suffix)) return true;
  return false;
}

[[noreturn]] void fail_no_shards(const fs::path& path, const std::string& found,
                                 const fs::path& out_prefix) {
  core::fail(ExitCode::kMissingInput, {.path = path,
                                       .field = "dataset",
                                       .expected = "a .ds file or a folder of .ds files",
                                       .found = found,
                                       .hint = "run: mha2mla tokenize --tokenizer MODEL --out " +
                                               out_prefix.string() + " INPUT..."});
}

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::error_code ignored;  // what cannot be examined is reported when it is opened
  std::vector<fs::path> found;
  bool raw_text = false;
  for (const fs::path& path : core::list_directory(folder)) {  // ascending
    if (fs::is_directory(path, ignored)) continue;
    raw_text = raw_text || is_raw_text(path);
    if (path.filename().string().ends_with(".ds")) found.push_back(path);
  }
  if (found.empty())
    fail_no_shards(folder, raw_text ? "raw text that is not tokenized yet" : "no .ds file",
                   folder / "00000");
  std::vector<fs::path> ordered;
  for (const uint64_t i : DefaultRng(kFileOrderSeed).permutation(found.size()))
    ordered.push_back(found[i]);
  return ordered;
}

}  // namespace

std::vector<fs::path> list_shards(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return list_folder(path);
  if (!fs::exists(path, error)) {
    if (fs::exists(path.string() + ".ds", error))
      core::fail(ExitCode::kMissingInput, {.path = path,
                                           .field = "dataset",
                                           .expected = "a .ds file or a folder of .ds files",
                                           .found = "nothing",
                                           .hint = "did you mean " + path.string() + ".ds?"});
    fail_no_shards(path, "nothing",
                   path.extension() == ".ds" ? fs::path(path).replace_extension() : path);
  }
  if (is_raw_text(path))
    fail_no_shards(path, "raw text that is not tokenized yet",
                   (path.parent_path() / path.stem()).replace_extension());
  if (path.extension() != ".ds")
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "dataset",
                                    .expected = "a .ds file or a folder of .ds files",
                                    .found = "a file named otherwise"});
  return {path};
}

ShardSet::ShardSet(const fs::path& path, int64_t window, int64_t vocab_size)
    : path_(path), window_(window) {
  if (window <= 0)
    core::fail(ExitCode::kBadConfig, {.path = path,
                                      .field = "window",
                                      .expected = "a positive number of tokens",
                                      .found = std::to_string(window)});
  first_window_.push_back(0);
  int64_t longest = 0;
  for (const fs::path& file : list_shards(path)) {
    const Shard& shard = shards_.emplace_back(file, vocab_size);
    longest = std::max(longest, shard.tokens());
    first_window_.push_back(first_window_.back() + shard.tokens() / window);
  }
  if (windows() == 0)
    core::fail(ExitCode::kBadData,
               {.path = path,
                .field = "tokens",
                .expected = "at least " + std::to_string(window) + " in one file for one window",
                .found = std::to_string(longest),
                .hint = "use a shorter tokens.sequence_length or a larger shard"});
}

int64_t ShardSet::tokens() const {
  return std::accumulate(shards_.begin(), shards_.end(), int64_t{0},
                         [](int64_t sum, const Shard& s) { return sum + s.tokens(); });
}

void ShardSet::read(int64_t index, int32_t* out) const {
  if (index < 0 || index >= windows())
    core::fail(ExitCode::kInternal, {.path = path_,
                                     .field = "window",
                                     .expected = "below " + std::to_string(windows()),
                                     .found = std::to_string(index)});
  // The last shard that starts at or before the window: shards without a window are stepped over.
  const auto after = std::upper_bound(first_window_.begin(), first_window_.end(), index);
  const auto shard = static_cast<size_t>(after - first_window_.begin()) - 1;
  shards_[shard].read((index - first_window_[shard]) * window_, window_, out);
}

void ShardSet::check_vocab(int64_t vocab_size) const {
  for (const Shard& shard : shards_) shard.check_vocab(vocab_size);
}

nlohmann::json ShardSet::describe() const {
  nlohmann::json files = nlohmann::json::array();
  for (const Shard& shard : shards_)
    files.push_back({{"name", shard.path().filename().string()},
                     {"bytes", shard.bytes()},
                     {"tokens", shard.tokens()},
                     {"windows", shard.tokens() / window_},
                     {"fingerprint", shard.fingerprint()}});
  return {{"path", path_.string()}, {"files", std::move(files)}};
}

std::string ShardSet::fingerprint() const {
  std::string all;
  for (const Shard& shard : shards_) all += shard.fingerprint();
  return core::hash_hex(all);
}

}  // namespace data
