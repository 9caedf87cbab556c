// Every environment variable of the program, read once, in one place. Table: docs/environment.md.
#pragma once

#include <string>

namespace core {

struct Env {
  std::string isa;  // MHA2MLA_ISA: force a lower instruction set (baseline|avx2|avx512|amx)
  bool check_finite = false;      // MHA2MLA_CHECK_FINITE=1: every op checks its output
  std::string failpoint;          // MHA2MLA_FAILPOINT: core/failpoint.h
  std::string failpoint_rank;     // MHA2MLA_FAILPOINT_RANK: only on this rank
  std::string trace;              // MHA2MLA_TRACE: core/trace_file.h
  bool no_shared_memory = false;  // MHA2MLA_SHARED_MEMORY=0: ranks of a host exchange messages too
  std::string launcher_rank;      // OMPI_COMM_WORLD_RANK: set by mpirun
};

const Env& env();

}  // namespace core
