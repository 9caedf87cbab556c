// An HDF5 virtual file driver whose calls go through core/io.h. Same bytes as HDF5's own "sec2"
// driver; in addition a file that was written is durable when it is closed, and after one failed
// call nothing more is written to it. Without locks: a run has its own (trainer/run/run_folder.h).
#pragma once

#include <cstdint>

namespace trainer {

// Makes files that are opened with the access list (an hid_t) use the driver; false on failure.
// Requires: h5_initialize().
bool use_h5_driver(int64_t access_list);

}  // namespace trainer
