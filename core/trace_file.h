// A recording as a Chrome trace (an array of JSON objects), for ui.perfetto.dev or
// chrome://tracing:
//   {"name": ..., "cat": ..., "ph": "X", "ts": us, "dur": us, "pid": rank, "tid": thread,
//    "args": {"layer": l, "GFLOP": g, "MB": m}}
// An argument that an event has not is left out.
#pragma once

#include <filesystem>

#include "core/trace.h"

namespace core::trace {

// The file of a rank: `path` itself for rank 0, else NAME.rankR.json for NAME.json or NAME.
std::filesystem::path path_of_rank(const std::filesystem::path& path, int rank);

// Starts recording if MHA2MLA_TRACE is set. Throws kBadConfig for a path that cannot be that of a
// file, kPermission for one that must not be written, before anything is done.
void start_from_environment(int rank);

// Ends what start_from_environment() began and writes the file; nothing if it began nothing. The
// number of events that the bound left out.
uint64_t finish_from_environment(int rank);

// Throws what AtomicFile throws.
void write(const std::filesystem::path& path, int rank, const Recording& recording);

}  // namespace core::trace
