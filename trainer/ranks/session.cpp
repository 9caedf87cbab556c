#include "trainer/ranks/session.h"

#include <cstdio>

#include "trainer/ranks/comm.h"

namespace trainer {

void Session::say(const std::string& line) const {
  if (comm.rank() != 0) return;
  std::FILE* stream = json ? stderr : stdout;
  std::fprintf(stream, "%s\n", line.c_str());
  std::fflush(stream);
}

void Session::warn(const std::string& line) const {
  if (comm.rank() == 0) std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace trainer
