// Named places of the program at which a test can kill, stop, delay or fail it:
//   MHA2MLA_FAILPOINT="NAME=ACTION[@N][,...]", ACTION = kill | abort | throw | stop | sleep:MS,
// carried out at the N-th passage (from 1, default 1). One relaxed load per passage when unset.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <string_view>

namespace core {

inline constexpr std::array<std::string_view, 21> kFailpointNames = {
    "run.start",
    "run.after_lock",
    "run.after_load",
    "step.begin",
    "step.before_update",
    "step.end",
    "validation.begin",
    "checkpoint.before_snapshot",
    "checkpoint.after_snapshot",
    "checkpoint.before_write",
    "checkpoint.during_write",
    "checkpoint.before_verify",
    "checkpoint.before_manifest",
    "checkpoint.after_manifest",
    "checkpoint.before_rename",
    "checkpoint.after_rename",
    "checkpoint.before_retention",
    "checkpoint.during_retention",
    "metrics.append",
    "result.before",
    "result.after",
};

// Index into kFailpointNames; a name that is not in the table does not compile.
class Failpoint {
 public:
  consteval Failpoint(const char* name) : index_(find(name)) {}  // implicit: failpoint("step.end")
  constexpr size_t index() const { return index_; }

 private:
  static consteval size_t find(std::string_view name) {
    const auto at = std::find(kFailpointNames.begin(), kFailpointNames.end(), name);
    if (at == kFailpointNames.end()) throw "no such failpoint";
    return static_cast<size_t>(at - kFailpointNames.begin());
  }

  size_t index_;
};

namespace internal {
extern std::atomic<bool> failpoints_armed;
void pass_failpoint(size_t index);
}  // namespace internal

// Passes the place. `throw` throws core::Error (kIo), as a failed operation would. Any thread.
inline void failpoint(Failpoint place) {
  if (internal::failpoints_armed.load(std::memory_order_relaxed))
    internal::pass_failpoint(place.index());
}

// Replaces what is armed and counts passages from 0 again; "" disarms. Throws kBadConfig for an
// unknown name or action. Requires: no other thread passes a failpoint meanwhile.
void arm_failpoints(const std::string& specification);

// Arms what MHA2MLA_FAILPOINT says, if MHA2MLA_FAILPOINT_RANK is unset or is the rank that the
// launcher gave to this process (OMPI_COMM_WORLD_RANK; 0 without one). Throws kBadConfig.
void arm_failpoints_from_environment();

}  // namespace core
