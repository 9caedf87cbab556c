// Every environment variable of the program, read once, in one place. Table: docs/environment.md.
#pragma once

#include <string>

namespace core {

struct Env {
  std::string isa;  // MHA2MLA_ISA: force a lower instruction set (baseline|avx2|avx512|amx)
  bool check_finite = false;  // MHA2MLA_CHECK_FINITE=1: every op checks its output
};

const Env& env();

}  // namespace core
