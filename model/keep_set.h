// Which frequency pairs keep their rotation (MHA2MLA, section 1). Pair k is columns k and k + P of
// a head; k = 0 turns fastest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace model {

enum class RopeStrategy { full, none, high, low, uniform, high_low, two_norm };
enum class RopeScore { product, sum };

// "full", "none", "high", "low", "uniform", "high-low", "2-norm"; throws kBadConfig for another
// name.
RopeStrategy rope_strategy_from(const std::string& name);
std::string to_string(RopeStrategy strategy);
RopeScore rope_score_from(const std::string& name);

// Pair norms of calibration (section 1.4), per layer: mean over tokens of ||(x_k, x_{k+P})||.
struct PairNorms {
  int64_t heads = 0, kv_heads = 0, pairs = 0;
  std::vector<double> query;  // [L, H, P]
  std::vector<double> key;    // [L, G, P]

  // [L, G, P]: score[l, i, k] is the sum over the query heads h of kv head i of query[l, h, k] *
  // key[l, i, k], or of query + key (section 1.4).
  std::vector<double> score(RopeScore kind) const;
};

struct RopeChoice {
  RopeStrategy strategy = RopeStrategy::two_norm;
  int64_t pairs_per_head = 0;  // r; P for full, 0 for none
  int64_t uniform_start = 0;
};

// The kept pairs [kv head] -> ascending pairs of one layer. `score` [G, P] is read by 2-norm only;
// ties go to the smaller pair. Throws kBadConfig naming the field when r or start do not fit P,
// kNumerical for a score that is not finite.
std::vector<std::vector<int32_t>> kept_pairs(const RopeChoice& choice, int64_t kv_heads,
                                             int64_t pairs, const double* score);

}  // namespace model
