// Lines of a run for people: on the console and, with the time, in trainer.log. Rank 0 only; below
// the trainer nobody logs. The console is stdout, or stderr when stdout belongs to --json.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace trainer {

class Log {
 public:
  // `file` may be empty: console only. `prefix` begins the lines of the console alone.
  Log(const std::filesystem::path& file, bool console_is_stderr, bool quiet,
      const std::string& prefix = {});
  ~Log();

  void info(const std::string& line) const;
  void warn(const std::string& line) const;  // always to stderr

 private:
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
  bool quiet_;
};

}  // namespace trainer
