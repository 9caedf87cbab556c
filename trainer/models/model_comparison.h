// Two models on the same ids: what `compare` shows, and the verdict of `convert` and `export`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "autograd/core/dtype.h"
#include "trainer/models/agreement.h"
#include "trainer/models/streamed_pass.h"

namespace trainer {

// The weights of A and B and their activations in the given types. Both are read layer by layer.
Agreement compare_logits(model::WeightReader& a, model::WeightReader& b,
                         const std::vector<WindowSource>& sets, ag::DType dtype_a = ag::DType::f32,
                         ag::DType dtype_b = ag::DType::f32);
// The same of windows that have passed both; logits are there for kLogitRows rows at a time.
inline constexpr int64_t kLogitRows = 128;
void add_agreement(Agreement& agreement, model::Head& a, const std::vector<PassedWindow>& of_a,
                   model::Head& b, const std::vector<PassedWindow>& of_b);

std::string to_text(const Agreement& agreement);
// In one line, A being the source of B.
std::string compared_with_source(const Agreement& agreement);
nlohmann::json to_json(const Agreement& agreement);

// Ids for a verdict when the user gave none: one window of at most 64, spread over the vocabulary,
// the same for every model of that vocabulary.
std::vector<WindowSource> spread_ids(const model::LlamaConfig& config);

// What a verdict is given on: the first kVerdictWindows windows of each set, or spread_ids() when
// there is none.
inline constexpr int64_t kVerdictWindows = 2;
std::vector<WindowSource> verdict_windows(std::vector<WindowSource> sets,
                                          const model::LlamaConfig& config);

// Two models that are to compute the same function in float32 are within
//   max |A - B| <= 1e-4 max |A|.
// Rounding alone moves logits by some hundred 2^-24 of the largest one; a wrong index, a lost
// factor or a wrong frequency moves them by far more than 1e-4 of it.
inline constexpr double kSameFunction = 1e-4;
// Throws kNumerical naming `path` when a difference is not finite.
void require_finite(const Agreement& agreement, const std::string& path);
// Throws kNumerical naming `path` when the models are not within the tolerance.
void require_same_function(const Agreement& agreement, const std::string& path);
// Throws kNumerical naming `path`: require_same_function() for a model that must be the same one,
// else require_finite().
void require_verdict(const Agreement& agreement, bool must_be_same, const std::string& path);
// Requires: require_same_function() has passed.
std::string same_function_text(const Agreement& agreement);

}  // namespace trainer
