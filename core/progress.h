// A progress line for long work: one updating line on a terminal, a plain line every few seconds
// elsewhere (logs, pipes, CI). Writes to stderr; silent when constructed quiet (ranks above 0).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace core {

class Progress {
 public:
  // `total` in units of `unit` ("tokens", "windows"); 0 when unknown.
  Progress(std::string title, uint64_t total, std::string unit, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(uint64_t done, const std::string& note = {});
  void finish(const std::string& note = {});

 private:
  void print(const std::string& note, bool last);

  std::string title_, unit_;
  uint64_t total_, done_ = 0;
  bool quiet_, terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, printed_;
};

}  // namespace core
