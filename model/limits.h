// What no model that this program reads goes beyond, whatever its format: larger numbers in a file
// are errors of the file, refused before anything is multiplied or allocated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace model {

inline constexpr int64_t kMaxExtent = int64_t{1} << 24;  // of any one dimension of a weight
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxPosition = int64_t{1} << 31;
inline constexpr size_t kMaxTensors = 65'536;
inline constexpr size_t kMaxTensorNameBytes = 512;

}  // namespace model
