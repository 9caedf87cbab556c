#include "model/keep_set.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace model {
namespace {

using core::ExitCode;

constexpr std::array<std::pair<const char*, RopeStrategy>, 7> kStrategies{
    {{"full", RopeStrategy::full},
     {"none", RopeStrategy::none},
     {"high", RopeStrategy::high},
     {"low", RopeStrategy::low},
     {"uniform", RopeStrategy::uniform},
     {"high-low", RopeStrategy::high_low},
     {"2-norm", RopeStrategy::two_norm}}};

[[noreturn]] void refuse(const char* field, std::string expected, std::string found,
                         std::string hint = {}) {
  core::fail(ExitCode::kBadConfig, {.field = field,
                                    .expected = std::move(expected),
                                    .found = std::move(found),
                                    .hint = std::move(hint)});
}

void check(const RopeChoice& c, int64_t pairs) {
  const char* field = "mla.rope.rope_pairs_per_head";
  const int64_t r = c.pairs_per_head;
  if (c.strategy == RopeStrategy::full && r != pairs)
    refuse(field, std::to_string(pairs) + " (all pairs) with strategy full", std::to_string(r));
  if (c.strategy == RopeStrategy::none && r != 0)
    refuse(field, "0 with strategy none", std::to_string(r));
  if (c.strategy != RopeStrategy::none && (r < 1 || r > pairs))
    refuse(field, "1 to " + std::to_string(pairs) + " (head_dim / 2)", std::to_string(r),
           r == 0 ? "use strategy none to drop RoPE altogether" : "");
  if (c.strategy != RopeStrategy::uniform) return;
  if (pairs % r != 0)
    refuse(field, "a divisor of " + std::to_string(pairs) + " with strategy uniform",
           std::to_string(r));
  if (c.uniform_start < 0 || c.uniform_start >= pairs / r)
    refuse("mla.rope.uniform_start", "0 to " + std::to_string(pairs / r - 1),
           std::to_string(c.uniform_start));
}

std::vector<int32_t> best_pairs(const double* score, int64_t pairs, int64_t r) {
  std::vector<int32_t> order(static_cast<size_t>(pairs));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  order.resize(static_cast<size_t>(r));
  std::sort(order.begin(), order.end());
  return order;
}

// The strategies that do not look at the model: the same pairs in every head.
std::vector<int32_t> fixed_pairs(const RopeChoice& c, int64_t pairs) {
  std::vector<int32_t> kept;
  const int64_t r = c.pairs_per_head;
  const int64_t highest = c.strategy == RopeStrategy::low        ? 0
                          : c.strategy == RopeStrategy::high_low ? (r + 1) / 2
                                                                 : r;
  for (int64_t i = 0; i < r; ++i) {
    int64_t k = i < highest ? i : pairs - r + i;
    if (c.strategy == RopeStrategy::uniform) k = c.uniform_start + i * (pairs / r);
    kept.push_back(static_cast<int32_t>(k));
  }
  return kept;
}

}  // namespace

RopeStrategy rope_strategy_from(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [text, strategy] : kStrategies) {
    if (name == text) return strategy;
    names.push_back(text);
  }
  const std::string near = core::nearest(name, names);
  refuse("mla.rope.strategy", "full, none, high, low, uniform, high-low or 2-norm",
         "\"" + name + "\"", near.empty() ? "" : "did you mean " + near + "?");
}

std::string to_string(RopeStrategy strategy) {
  for (const auto& [text, value] : kStrategies)
    if (value == strategy) return text;
  return "?";
}

RopeScore rope_score_from(const std::string& name) {
  if (name == "product") return RopeScore::product;
  if (name == "sum") return RopeScore::sum;
  refuse("mla.rope.score", "product or sum", "\"" + name + "\"");
}

std::vector<double> PairNorms::score(RopeScore kind) const {
  const int64_t group = heads / kv_heads;
  const auto layers = static_cast<int64_t>(key.size()) / (kv_heads * pairs);
  std::vector<double> result(key.size(), 0);
  for (int64_t l = 0; l < layers; ++l) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t k = 0; k < pairs; ++k) {
        const auto at = static_cast<size_t>((l * kv_heads + h / group) * pairs + k);
        const double q = query[static_cast<size_t>((l * heads + h) * pairs + k)];
        result[at] += kind == RopeScore::product ? q * key[at] : q + key[at];
      }
    }
  }
  return result;
}

std::vector<std::vector<int32_t>> kept_pairs(const RopeChoice& choice, int64_t kv_heads,
                                             int64_t pairs, const double* score) {
  check(choice, pairs);
  if (choice.strategy != RopeStrategy::two_norm)
    return {static_cast<size_t>(kv_heads), fixed_pairs(choice, pairs)};
  // Why: NaN has no place in an order.
  if (!std::all_of(score, score + kv_heads * pairs, [](double s) { return std::isfinite(s); }))
    core::fail(ExitCode::kNumerical, {.field = "mla.rope.score",
                                      .expected = "finite 2-norm scores",
                                      .found = "NaN or infinity",
                                      .hint = "check the model's weights with inspect --verify"});
  std::vector<std::vector<int32_t>> kept;
  for (int64_t i = 0; i < kv_heads; ++i)
    kept.push_back(best_pairs(score + i * pairs, pairs, choice.pairs_per_head));
  return kept;
}

}  // namespace model
