#include "trainer/config/did_you_mean.h"

#include "core/text.h"

namespace trainer {

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongestWord = 64;
  const std::string near = core::nearest(word.substr(0, kLongestWord), candidates);
  return near.empty() ? "" : "did you mean " + near + "?";
}

}  // namespace trainer
