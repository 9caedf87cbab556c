// Errors of the configurations of a sweep, each once: the trials share what is wrong with the base.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "trainer/sweep/config.h"

namespace trainer {

class PlanProblems {
 public:
  // `file` is that of the sweep.
  explicit PlanProblems(std::string file) : file_(std::move(file)) {}

  // What is wrong with one trial. `message` may be several lines; what was said of an override of
  // the file is said of its place.
  void add(const std::string& message, const std::vector<SweepSetting>& settings);
  // Nobody reads more errors, and of trials that are refused there may be thousands.
  bool is_full() const { return lines_.size() >= kMaxShown || refused_ >= kMaxRefused; }
  // Throws kBadConfig.
  void fail_if_any() const;

 private:
  static constexpr size_t kMaxShown = 100, kMaxRefused = 1000;

  std::string with_place(const std::string& line, const std::vector<SweepSetting>& settings,
                         const std::vector<std::string>& prefixes) const;

  std::string file_;
  std::vector<std::string> lines_;
  std::set<std::string> seen_;
  size_t refused_ = 0;
};

}  // namespace trainer
