// Named tensors over as many HDF5 files as their bytes need: PREFIX-00001-of-00002.h5. Names are
// dealt in ascending order, so that equal tensors are equal files, whoever writes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "trainer/files/h5.h"
#include "trainer/files/manifest.h"

namespace trainer {

inline constexpr uint64_t kBytesPerFile = uint64_t{4} << 30;

enum class FiniteScan { no, yes };

// Writes, syncs, and reads every tensor back from the disk against the hash of its memory. A tensor
// is never split; a file closes before it would exceed `bytes_per_file`. Throws kIo, kBadData for
// what came back different, and with the scan kNumerical for a NaN or infinity.
// Requires: `sources` ascending by name, unchanged during the call.
std::map<std::string, TensorEntry> write_h5_set(const std::filesystem::path& folder,
                                                const std::string& prefix,
                                                const std::vector<H5Source>& sources,
                                                uint64_t bytes_per_file = kBytesPerFile,
                                                FiniteScan scan = FiniteScan::no);

// Opens each file of `tensors`: exactly its names, with their dtypes, shapes and hashes, else
// kBadData. With the scan a NaN or infinity is kNumerical, naming tensor and index.
void check_h5_set(const std::filesystem::path& folder,
                  const std::map<std::string, TensorEntry>& tensors, FiniteScan scan);

}  // namespace trainer
