#include "core/env.h"

#include <cstdlib>

namespace core {
namespace {

std::string get(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

const Env& env() {
  static const Env instance{.isa = get("MHA2MLA_ISA"),
                            .check_finite = get("MHA2MLA_CHECK_FINITE") == "1",
                            .failpoint = get("MHA2MLA_FAILPOINT"),
                            .failpoint_rank = get("MHA2MLA_FAILPOINT_RANK"),
                            .trace = get("MHA2MLA_TRACE"),
                            .no_shared_memory = get("MHA2MLA_SHARED_MEMORY") == "0",
                            .launcher_rank = get("OMPI_COMM_WORLD_RANK")};
  return instance;
}

}  // namespace core
