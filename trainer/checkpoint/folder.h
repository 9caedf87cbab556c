// A folder of state - a checkpoint or a native model - that appears whole, by one rename, or not at
// all:  .tmp-TAG-NONCE/ {h5 files, companions, MANIFEST.json last} -> fsync -> rename -> fsync.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trainer/files/companion.h"
#include "trainer/files/h5_set.h"
#include "trainer/files/manifest.h"
#include "trainer/files/staging.h"

namespace trainer {

struct FolderContents {
  std::string tag;     // of the temporary name
  std::string prefix;  // of the HDF5 files
  std::vector<H5Source> sources;
  std::vector<Companion> companions;
  Manifest manifest;  // tensors and files are filled in
  uint64_t bytes_per_file = kBytesPerFile;
  FiniteScan scan = FiniteScan::no;  // kNumerical for a NaN or infinity
  // Called with the temporary folder when all but the manifest is there; may add to its
  // provenance. What it throws on never appears.
  std::function<void(const std::filesystem::path&, Manifest&)> check = {};
};

// Returns the manifest's hash. On failure the temporary folder is gone, `path` is as it was, and
// the error names the bytes needed and free. Asks for 1.2 times the size to be free beforehand.
// Folders above `path` are made for a new one only: what replaces has its place, and if that is
// gone it must not come to life again.
std::string write_folder(const std::filesystem::path& path, FolderContents contents,
                         IfExists if_exists);

enum class Depth {
  sizes,  // manifest and file sizes
  full,   // and file hashes, then HDF5: names, dtypes, shapes, tensor hashes, finite values
};

// Throws kBadData, kMissingInput, kIo or kNumerical for what does not hold; kBadConfig for a format
// that is too new. HDF5 sees no byte before the hash of its file was right.
Manifest verify_folder(const std::filesystem::path& folder, Depth depth);

}  // namespace trainer
