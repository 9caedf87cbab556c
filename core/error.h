// The one way in which the program refuses something: a typed exit code and one line of text,
//   path:place: error: field: expected X, got Y; hint
// Thrown anywhere, caught once, in main.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace core {

// Exit codes of the program; stable, documented in docs/exit_codes.md.
enum class ExitCode : int {
  kOk = 0,
  kUsage = 64,              // bad command line
  kBadData = 65,            // bad content in a model, tokenizer, shard or text file
  kMissingInput = 66,       // input missing or unreadable
  kInternal = 70,           // a bug of ours
  kOsLimit = 71,            // threads, file descriptors, shared memory
  kRunLocked = 73,          // run folder in use or already there
  kIo = 74,                 // read or write failed, disk full
  kPreempted = 75,          // stopped on request, checkpoint saved, run again
  kNoValidCheckpoint = 76,  // checkpoints exist, none is valid
  kPermission = 77,         // not allowed to read or write
  kBadConfig = 78,          // bad configuration, or incompatible with the checkpoint
  kNumerical = 79,          // NaN, Inf, divergence
  kOutOfMemory = 80,
  kHang = 86,
  kReplicasDiffer = 87,
};

// What is wrong, where. Empty parts are left out of the message.
struct Fault {
  std::string path = {};   // file or folder
  std::string place = {};  // line:column, byte offset, tensor or dataset
  std::string field = {};  // key or property
  std::string expected = {};
  std::string found = {};
  std::string hint = {};  // what to do about it
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const Fault& fault);
  Error(ExitCode code, const std::string& message);  // an already formatted line
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// A line for a terminal. It may quote files, hostile ones too: line breaks, terminal escapes and
// bytes that are not UTF-8 become \xNN, and an endless line is cut.
std::string printable(std::string_view line);

std::string format_fault(const Fault& fault);

[[noreturn]] void fail(ExitCode code, const Fault& fault);

// Throws kIo / kPermission / kMissingInput according to errno, naming the operation and the path.
[[noreturn]] void fail_errno(const std::string& operation, const std::string& path,
                             int error_number);

}  // namespace core
