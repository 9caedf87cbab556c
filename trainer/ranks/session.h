// The ranks of this process, and the console that rank 0 speaks to.
#pragma once

#include <string>

namespace trainer {

class Comm;

// What a verb may talk to.
struct Session {
  Comm& comm;
  bool json = false;        // --json: stdout belongs to the one JSON object
  std::string prefix = {};  // of a run's lines on the console: which of several runs it is

  // A line for people: stdout, or stderr with --json; rank 0 only.
  void say(const std::string& line) const;
  // A line beside the result: stderr; rank 0 only.
  void warn(const std::string& line) const;
};

}  // namespace trainer
