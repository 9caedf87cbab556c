#include "core/error.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/text.h"

namespace core {
namespace {

constexpr size_t kMaxLineBytes = 4096;

}  // namespace

std::string printable(std::string_view line) {
  const bool cut = line.size() > kMaxLineBytes;
  if (cut) line = line.substr(0, kMaxLineBytes);
  std::string text;
  const auto escape = [&](char c) {
    char code[5];
    std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned>(static_cast<uint8_t>(c)));
    text += code;
  };
  while (!line.empty()) {
    const std::string_view valid = line.substr(0, find_invalid_utf8(line));
    for (size_t i = 0; i < valid.size(); ++i) {
      const bool c1_control =
          valid[i] == '\xC2' && i + 1 < valid.size() && static_cast<uint8_t>(valid[i + 1]) < 0xA0;
      if (c1_control) escape(valid[i++]);
      if (c1_control || static_cast<uint8_t>(valid[i]) < 0x20 || valid[i] == 0x7F)
        escape(valid[i]);
      else
        text += valid[i];
    }
    line.remove_prefix(valid.size());
    if (line.empty()) break;
    escape(line[0]);
    line.remove_prefix(1);
  }
  return cut ? text + "..." : text;
}

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
  return printable(line);
}

Error::Error(ExitCode code, const Fault& fault)
    : std::runtime_error(format_fault(fault)), code_(code) {}
Error::Error(ExitCode code, const std::string& message)
    : std::runtime_error(message), code_(code) {}

void fail(ExitCode code, const Fault& fault) { throw Error(code, fault); }

void fail_errno(const std::string& operation, const std::string& path, int error_number) {
  ExitCode code = ExitCode::kIo;
  std::string expected, hint;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
      code = ExitCode::kMissingInput;
      // What is created need not exist, the folder that is to hold it must.
      expected = operation == "create" ? "an existing folder" : "an existing file";
      hint = "check the path";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = ExitCode::kPermission;
      expected = "permission to do so";
      hint = "change the permissions or choose another path";
      break;
    case ENOSPC:
    case EDQUOT:
      expected = "free disk space";
      hint = "free disk space and run the same command again";
      break;
    case EMFILE:
    case ENFILE:
      code = ExitCode::kOsLimit;
      break;
    default:
      break;
  }
  fail(code, {.path = path,
              .field = operation,
              .expected = expected,
              .found = std::strerror(error_number),
              .hint = hint});
}

}  // namespace core
