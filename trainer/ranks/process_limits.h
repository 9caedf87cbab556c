// The limits of the process that libraries below cannot live without. They answer with an endless
// loop (OpenBLAS) or a page of text (Open MPI): asked for first, they are one line.
#pragma once

namespace trainer {

// Descriptors 0 to 2 that were closed at the start: without this the next file of the program would
// get their number, and the log would be written into it.
void occupy_standard_descriptors();

// Throws kOsLimit (open files, stack) or kOutOfMemory (address space), naming limit and need.
void require_process_limits();

}  // namespace trainer
