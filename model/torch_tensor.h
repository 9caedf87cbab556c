// A file of torch.save that holds one tensor: a zip archive without compression with
//   PREFIX/data.pkl   a pickle that calls torch._utils._rebuild_tensor_v2
//   PREFIX/data/KEY   the elements, little endian
// The public MHA2MLA code keeps its 2-norm scores and ranks in such files. The pickle is read as
// data: no name in it is ever looked up or called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace model {

struct TorchTensor {
  std::vector<int64_t> shape;
  std::vector<double> values;  // row-major; integers are exact up to 2^53
};

// Reads float32, float64, bfloat16, int64, int32, uint8 and bool of at most 2^26 elements; any
// strides. Throws kBadData naming `path`, the part and what was found.
TorchTensor parse_torch_tensor(const std::string& path, std::span<const std::byte> file);
TorchTensor read_torch_tensor(const std::filesystem::path& path);

// The bytes of the file that torch.load reads. Requires: as many values as the shape holds.
std::string format_torch_tensor(const std::vector<int64_t>& shape, std::span<const float> values);
std::string format_torch_tensor(const std::vector<int64_t>& shape, std::span<const uint8_t> values);

}  // namespace model
