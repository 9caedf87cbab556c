// The pickle of one tensor as torch.save writes it, read on a stack of plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace model {

// Element [i, j, ...] is element offset + i * strides[0] + j * strides[1] + ... of the storage.
struct TorchStorageView {
  std::string type;  // FloatStorage, ByteStorage, ...
  std::string key;   // of the record data/KEY
  int64_t offset = 0;
  std::vector<int64_t> shape, strides;
};

// Throws kBadData naming `path` for anything but one tensor, and for opcodes that such a pickle
// does not have.
TorchStorageView parse_torch_pickle(const std::string& path, std::string_view pickle);

// The pickle of a contiguous tensor whose storage has the key "0".
std::string format_torch_pickle(const std::string& storage_type, const std::vector<int64_t>& shape);

}  // namespace model
