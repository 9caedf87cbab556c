// The names in an HDF5 file of anybody, as many as one of ours could have.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace trainer {

struct H5Link {
  std::string name;  // from the root, groups and all
  bool is_hard;      // leads to an object of this file
};

// Of the open file (an hid_t), every group before what is in it; nullopt and HDF5's error stack
// when HDF5 fails. Throws kBadData for groups above 16 deep, more than 2^20 names, or 64 MiB of
// them: HDF5 recurses into groups, and every name repeats those of the groups around it, so that a
// small file could use up the stack, and memory.
std::optional<std::vector<H5Link>> list_h5_links(int64_t file, const std::filesystem::path& path);

}  // namespace trainer
