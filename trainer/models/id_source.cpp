#include "trainer/models/id_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/hash.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr int64_t kDefaultSequenceLength = 1024;

WindowSource from_shard(const fs::path& path, const IdSource& source,
                        const model::LlamaConfig& config) {
  const int64_t length = source.sequence_length != 0
                             ? source.sequence_length
                             : std::min(kDefaultSequenceLength, config.max_position_embeddings);
  const auto windows =
      std::make_shared<data::EvalWindows>(path, config.vocab_size, length, source.max_windows);
  return {.name = path.string(),
          .protocol = windows->protocol(),
          .fingerprint = windows->fingerprint(),
          .count = windows->count(),
          .sequence_length = length,
          .read = [windows](int64_t index, int32_t* out) { windows->read(index, out); }};
}

WindowSource from_ids(const fs::path& path, const model::LlamaConfig& config) {
  const ag::Tensor ids = read_ids(path, config.vocab_size);
  const auto values = std::make_shared<std::vector<int32_t>>(ids.to_host<int32_t>());
  const int64_t s = ids.cols();
  return {.name = path.string(),
          .protocol = "rows of " + std::to_string(s) + " ids, " + std::to_string(s - 1) +
                      " targets each, " + std::to_string(ids.rows()) + " rows",
          .fingerprint = core::hash_file_hex(path),
          .count = ids.rows(),
          .sequence_length = s,
          .read = [values, s](int64_t index, int32_t* out) {
            std::copy_n(values->begin() + index * s, s, out);
          }};
}

}  // namespace

bool is_given(const IdSource& source) { return !source.data.empty() || !source.ids.empty(); }

std::string warning_of_length(const std::string& name, int64_t sequence_length,
                              const model::LlamaConfig& config) {
  if (sequence_length <= config.context_length()) return {};
  return fmt::format("warning: {}: {} is more than the {} positions that the model was made for",
                     name, sequence_length, config.context_length());
}

void warn_of_length(const std::vector<WindowSource>& sets, const model::LlamaConfig& config,
                    const Session& session) {
  const std::string warning =
      warning_of_length("sequence length", sets.front().sequence_length, config);
  if (!warning.empty()) session.warn(warning);
}

std::vector<WindowSource> open_windows(const IdSource& source, const model::LlamaConfig& config) {
  if (source.data.empty() == source.ids.empty())
    core::fail(ExitCode::kUsage,
               {.field = "--data, --ids",
                .expected = "one of them",
                .found = source.ids.empty() ? "neither" : "both",
                .hint = "--data takes shards (.ds), --ids a safetensors file with input_ids"});
  if (!source.ids.empty()) return {from_ids(source.ids, config)};
  std::vector<WindowSource> sets;
  for (const fs::path& path : source.data) sets.push_back(from_shard(path, source, config));
  return sets;
}

std::string describe(const std::vector<WindowSource>& sets) {
  std::string text;
  for (const WindowSource& set : sets)
    text += (text.empty() ? "" : "; ") + fs::path(set.name).filename().string() + " (" +
            set.protocol + ", XXH3-128 " + set.fingerprint + ")";
  return text;
}

int64_t total_windows(const std::vector<WindowSource>& sets) {
  int64_t windows = 0;
  for (const WindowSource& set : sets) windows += set.count;
  return windows;
}

}  // namespace trainer
