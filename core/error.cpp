#include "core/error.h"

#include <cerrno>
#include <cstring>

namespace core {

std::string format_fault(const Fault& f) {
  std::string line;
  if (!f.path.empty()) line += f.path + ":";
  if (!f.place.empty()) line += f.place + ":";
  if (!line.empty()) line += " ";
  line += "error:";
  if (!f.field.empty()) line += " " + f.field + ":";
  if (!f.expected.empty()) line += " expected " + f.expected;
  if (!f.found.empty()) line += (f.expected.empty() ? " " : ", got ") + f.found;
  if (!f.hint.empty()) line += "; " + f.hint;
  return line;
}

Error::Error(ExitCode code, const Fault& fault)
    : std::runtime_error(format_fault(fault)), code_(code) {}
Error::Error(ExitCode code, const std::string& message)
    : std::runtime_error(message), code_(code) {}

void fail(ExitCode code, const Fault& fault) { throw Error(code, fault); }

void fail_errno(const std::string& operation, const std::string& path, int error_number) {
  ExitCode code = ExitCode::kIo;
  std::string hint;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      code = ExitCode::kMissingInput;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = ExitCode::kPermission;
      break;
    case ENOSPC:
    case EDQUOT:
      hint = "free disk space and run the same command again";
      break;
    case EMFILE:
    case ENFILE:
      code = ExitCode::kOsLimit;
      break;
    default:
      break;
  }
  fail(code,
       {.path = path, .field = operation, .found = std::strerror(error_number), .hint = hint});
}

}  // namespace core
