#include "data/eval_windows.h"

#include <algorithm>

#include "core/error.h"

namespace data {
namespace {

void require_at_least(const std::filesystem::path& path, const char* field, int64_t value,
                      int64_t least) {
  if (value < least)
    core::fail(core::ExitCode::kBadConfig, {.path = path,
                                            .field = field,
                                            .expected = "at least " + std::to_string(least),
                                            .found = std::to_string(value)});
}

}  // namespace

EvalWindows::EvalWindows(const std::filesystem::path& path, int64_t vocab_size,
                         int64_t sequence_length, int64_t max_windows)
    : shards_((require_at_least(path, "sequence_length", sequence_length, 2),
               require_at_least(path, "max_windows", max_windows, 0), path),
              sequence_length, vocab_size),
      count_(max_windows > 0 ? std::min(max_windows, shards_.windows()) : shards_.windows()) {}

void EvalWindows::read(int64_t index, int32_t* out) const {
  if (index >= count_)
    core::fail(core::ExitCode::kInternal, {.field = "evaluation window",
                                           .expected = "below " + std::to_string(count_),
                                           .found = std::to_string(index)});
  shards_.read(index, out);
}

std::string EvalWindows::protocol() const {
  const int64_t S = sequence_length();
  return "disjoint windows of " + std::to_string(S) + " ids, " + std::to_string(S - 1) +
         " targets each, " + std::to_string(count_) + " windows";
}

}  // namespace data
