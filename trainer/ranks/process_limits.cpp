#include "trainer/ranks/process_limits.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>

#include "core/error.h"
#include "core/text.h"

namespace trainer {
namespace {

using core::ExitCode;

constexpr uint64_t kDescriptors = 64;                // Open MPI takes about 20, data and HDF5 few
constexpr uint64_t kStackBytes = uint64_t{1} << 18;  // of Open MPI and of new threads
// OpenBLAS reserves 128 MiB for each thread that calls it, malloc an arena of 64 MiB.
constexpr size_t kAddressSpaceBytes = size_t{1} << 29;

rlim_t limit_of(__rlimit_resource resource) {
  rlimit limit{};
  return ::getrlimit(resource, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

void require_at_least(rlim_t limit, uint64_t least, const char* field, const char* command,
                      const char* unit) {
  if (limit == RLIM_INFINITY || limit >= least) return;
  core::fail(ExitCode::kOsLimit, {.field = field,
                                  .expected = fmt::format("at least {}{}", least, unit),
                                  .found = fmt::format("a limit of {}{}", limit, unit),
                                  .hint = fmt::format("raise it with {}", command)});
}

void require_address_space() {
  const rlim_t limit = limit_of(RLIMIT_AS);
  if (limit == RLIM_INFINITY) return;
  void* probe = ::mmap(nullptr, kAddressSpaceBytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (probe == MAP_FAILED)
    core::fail(ExitCode::kOutOfMemory,
               {.field = "address space",
                .expected = core::format_bytes(kAddressSpaceBytes) + " beside the libraries",
                .found = "a limit of " + core::format_bytes(limit) + " in all",
                .hint = "raise it with ulimit -v"});
  ::munmap(probe, kAddressSpaceBytes);
}

}  // namespace

void occupy_standard_descriptors() {
  // Read-only: what is written to them fails as it would have, and is reported where it matters.
  int fd = 0;
  do fd = ::open("/dev/null", O_RDONLY);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

void require_process_limits() {
  require_at_least(limit_of(RLIMIT_NOFILE), kDescriptors, "open files", "ulimit -n", "");
  require_at_least(limit_of(RLIMIT_STACK), kStackBytes, "stack", "ulimit -s", " bytes");
  require_address_space();
}

}  // namespace trainer
