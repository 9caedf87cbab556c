#include "trainer/checkpoint/retention.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "trainer/checkpoint/checkpoint.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

// Nothing where no loss was measured or the manifest cannot be read: such a checkpoint is no best
// one, and judging it is not retention's business.
std::optional<double> stored_loss(const fs::path& checkpoint) {
  try {
    const nlohmann::json loss =
        read_manifest(checkpoint).provenance.value("val_loss", nlohmann::json());
    if (loss.is_number()) return loss.get<double>();
  } catch (const core::Error&) {
  }
  return std::nullopt;
}

std::set<int64_t> best_steps(const std::vector<CheckpointPath>& found, int64_t count,
                             const ValidationLosses& losses) {
  std::vector<std::pair<double, int64_t>> ranking;  // (loss, -step)
  if (count > 0)
    for (const auto& [step, path] : found) {
      const auto known = losses.find(step);
      const auto loss = known != losses.end() ? std::optional(known->second) : stored_loss(path);
      if (loss) ranking.emplace_back(*loss, -step);
    }
  std::sort(ranking.begin(), ranking.end());
  std::set<int64_t> best;
  for (size_t i = 0; i < ranking.size() && std::cmp_less(i, count); ++i)
    best.insert(-ranking[i].second);
  return best;
}

// Renamed first: a half removed folder must not look like a checkpoint.
void remove_checkpoint(const fs::path& directory, const CheckpointPath& checkpoint) {
  const fs::path trash = directory / with_nonce(fmt::format(".trash-{}", checkpoint.step));
  core::rename_durably(checkpoint.path, trash);
  core::failpoint("checkpoint.during_retention");
  discard_folder(trash);
}

}  // namespace

std::vector<int64_t> apply_retention(const fs::path& directory, const Retention& retention,
                                     const ValidationLosses& losses) {
  const std::vector<CheckpointPath> found = find_checkpoints(directory);
  const std::set<int64_t> best = best_steps(found, retention.keep_best, losses);
  const int64_t newest = std::max<int64_t>(retention.keep_last, 1);
  const auto multiple_of = [](int64_t step, int64_t interval) {
    return interval > 0 && step % interval == 0;
  };
  std::vector<int64_t> removed;
  int64_t seen = 0, scheduled = 0;
  for (const CheckpointPath& checkpoint : found) {
    const int64_t step = checkpoint.step;
    const bool among_newest = ++seen <= newest;
    const bool among_scheduled =
        multiple_of(step, retention.checkpoint_interval) && ++scheduled <= newest;
    if (among_newest || among_scheduled || multiple_of(step, retention.keep_every) ||
        best.contains(step))
      continue;
    remove_checkpoint(directory, checkpoint);
    removed.push_back(step);
  }
  return removed;
}

}  // namespace trainer
