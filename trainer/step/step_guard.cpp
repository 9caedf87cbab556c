#include "trainer/step/step_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <vector>

#include "core/error.h"
#include "trainer/ranks/comm.h"

namespace trainer {
namespace {

using core::ExitCode;
using core::Fault;
using nlohmann::json;

// Below this share of the mean a deviation is rounding: without it a loss that hardly moves would
// find a spike in every step.
constexpr double kLeastDeviation = 1e-3;
constexpr int64_t kMostSteps = int64_t{1} << 53;

std::string describe(const Fault& fault) {
  return fmt::format("{}: {}, expected {}", fault.field, fault.found, fault.expected);
}

[[noreturn]] void refuse_state(const std::string& found) {
  core::fail(ExitCode::kNoValidCheckpoint, {.place = "guard",
                                            .field = "state value",
                                            .expected = "what this program writes",
                                            .found = found});
}

int64_t count_from(const json& value) {
  const auto count = value.get<int64_t>();
  if (count < 0 || count > kMostSteps) refuse_state(value.dump());
  return count;
}

}  // namespace

double loss_z_score(const std::deque<double>& window, double loss) {
  if (window.size() < StepGuard::kShortestWindow) return 0;
  const auto n = static_cast<double>(window.size());
  double sum = 0, squares = 0;
  for (const double x : window) sum += x;
  const double mean = sum / n;
  for (const double x : window) squares += (x - mean) * (x - mean);
  const double deviation = std::max(std::sqrt(squares / n), kLeastDeviation * std::abs(mean));
  return deviation > 0 ? (loss - mean) / deviation : 0;
}

void StepGuard::register_state(StateRegistry& registry) {
  registry.add_value(
      "guard.losses", [this] { return json(losses_); },
      [this](const json& value) {
        losses_ = value.get<std::deque<double>>();
        if (losses_.size() > kWindow) refuse_state(std::to_string(losses_.size()) + " losses");
      });
  registry.add_value(
      "guard.skipped",
      [this] {
        return json{{"steps", skipped_}, {"first", series_first_}, {"last", series_last_}};
      },
      [this](const json& value) {
        skipped_ = count_from(value.at("steps"));
        series_first_ = count_from(value.at("first"));
        series_last_ = count_from(value.at("last"));
        if (series_first_ > series_last_) refuse_state(value.dump());
      });
  // A rollback loads an older state, and must not forget why: these two only grow.
  registry.add_value(
      "guard.forgotten",
      [this] {
        json list = json::array();
        for (const auto& [first, last] : forgotten_) list.push_back({first, last});
        return list;
      },
      [this](const json& value) { load_forgotten(value); });
  registry.add_value(
      "guard.rollbacks", [this] { return json(rollbacks_); },
      [this](const json& value) { rollbacks_ = std::max(rollbacks_, count_from(value)); });
}

void StepGuard::load_forgotten(const json& value) {
  for (const json& range : value) {
    const int64_t first = count_from(range.at(0)), last = count_from(range.at(1));
    if (first > last) refuse_state(range.dump());
    add_forgotten(first, last);
  }
}

void StepGuard::add_forgotten(int64_t first, int64_t last) {
  // Absorbs every range that it meets, so that equal sets are equal in the checkpoint.
  auto next = forgotten_.upper_bound(last + 1);
  while (next != forgotten_.begin()) {
    const auto range = std::prev(next);
    if (range->second + 1 < first) break;
    first = std::min(first, range->first);
    last = std::max(last, range->second);
    next = forgotten_.erase(range);
  }
  forgotten_.emplace(first, last);
}

bool StepGuard::is_forgotten(int64_t step) const {
  const auto next = forgotten_.upper_bound(step);
  return next != forgotten_.begin() && std::prev(next)->second >= step;
}

void StepGuard::forget(int64_t first, int64_t last) {
  if (rollbacks_ >= kMaxRollbacks)
    throw AgreedError(
        ExitCode::kNumerical,
        Fault{.path = fmt::format("step {}", last),
              .field = "rollback",
              .expected = fmt::format("at most {} in a run", kMaxRollbacks),
              .found = "one more",
              .hint = "lower optimizer.learning_rate_scheduler.learning_rate, or raise "
                      "checkpoints.rollback_skip_steps; the last checkpoint is intact"});
  ++rollbacks_;
  add_forgotten(first, last);
}

StepGuard::Judgement StepGuard::judge(const Evidence& e) {
  if (!std::isfinite(e.loss) || !std::isfinite(e.gradient_norm))
    return act(config_.on_nan, e,
               {.path = fmt::format("step {}", e.step),
                .field = e.nonfinite(),
                .expected = "finite values",
                .found = "NaN or infinity",
                .hint = "lower optimizer.learning_rate_scheduler.learning_rate, or set "
                        "MHA2MLA_CHECK_FINITE=1 to find the op; the last checkpoint is intact"});
  // Compared before it is added: a spike must not hide in its own window.
  const double z = config_.on_spike == "off" ? 0 : loss_z_score(losses_, e.loss);
  Judgement judgement;
  if (z > config_.spike_z_score)
    judgement =
        act(config_.on_spike, e,
            {.path = fmt::format("step {}", e.step),
             .field = "loss",
             .expected = fmt::format("at most {} standard deviations above the mean of the last {}",
                                     config_.spike_z_score, losses_.size()),
             .found = fmt::format("{:.6g}, {:.3g} above it", e.loss, z),
             .hint = "look at the data of this step, or lower "
                     "optimizer.learning_rate_scheduler.learning_rate; the last checkpoint is "
                     "intact"});
  if (judgement.outcome == StepOutcome::applied) {
    losses_.push_back(e.loss);
    if (losses_.size() > kWindow) losses_.pop_front();
  }
  return judgement;
}

// Sound ranks judge alike: loss and gradient are sums over one tree, broadcast as bytes, and all
// that is remembered is built from them. A rank that does not must not leave or go back alone,
// where the others would wait for it. An integer tells: MPI_MAX of a loss would lose a NaN.
StepGuard::Judgement StepGuard::judge(const Evidence& e, Comm& comm) {
  constexpr uint64_t kStops = uint64_t{1} << 63;
  Judgement judgement;
  std::optional<AgreedError> stop;
  try {
    judgement = judge(e);
  } catch (const AgreedError& error) {
    stop = error;
  }
  const uint64_t own = stop ? kStops : uint64_t{1} << static_cast<unsigned>(judgement.outcome);
  const uint64_t all = comm.bit_or(own);
  if (!std::has_single_bit(all)) {
    const std::vector<std::string> evidence =
        comm.gather(fmt::format("rank {} ({}) loss {}, gradient norm {}", comm.rank(), comm.host(),
                                e.loss, e.gradient_norm));
    throw AgreedError(ExitCode::kReplicasDiffer,
                      Fault{.path = fmt::format("step {}", e.step),
                            .field = "judgement of the step",
                            .expected = "the same on all ranks",
                            .found = fmt::format("{}", fmt::join(evidence, "; ")),
                            .hint = "a processor or memory is faulty; the last checkpoint is "
                                    "intact: start again without that host"});
  }
  if (stop) throw AgreedError(*stop);
  return judgement;
}

StepGuard::Judgement StepGuard::act(const std::string& action, const Evidence& e,
                                    const Fault& fault) {
  if (action == "stop") throw AgreedError(ExitCode::kNumerical, fault);
  if (action == "skip") return skip(e, fault);
  const std::string what = fmt::format("{}: {}", fault.path, describe(fault));
  if (action == "rollback") return {StepOutcome::rollback, what + "; the run is set back"};
  return {StepOutcome::applied, what};
}

StepGuard::Judgement StepGuard::skip(const Evidence& e, const Fault& fault) {
  const bool goes_on = skipped_ > 0 && series_last_ == e.step - 1;
  const int64_t first = goes_on ? series_first_ : e.step, in_a_row = e.step - first + 1;
  if (in_a_row > config_.max_skipped_steps)
    throw AgreedError(ExitCode::kNumerical,
                      Fault{.path = fmt::format("steps {} to {}", first, e.step),
                            .field = fault.field,
                            .expected = fmt::format("at most checkpoints.max_skipped_steps = {} "
                                                    "skipped in a row",
                                                    config_.max_skipped_steps),
                            .found = fmt::format("{}: {}", in_a_row, fault.found),
                            .hint = fault.hint});
  series_first_ = first;
  series_last_ = e.step;
  ++skipped_;
  return {StepOutcome::skipped, fmt::format("{}: {}; skipped, {} in a row, {} in all", fault.path,
                                            describe(fault), in_a_row, skipped_)};
}

}  // namespace trainer
