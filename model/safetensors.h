// safetensors: u64 header length N (little-endian), N bytes of JSON
//   {"__metadata__": {str: str}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}, ...},
// then the data section: row-major little-endian elements, without holes, to the end of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "autograd/core/tensor.h"
#include "core/file.h"

namespace model {

// One entry of the header.
struct StoredTensor {
  std::string dtype;  // as in the file: F32, BF16, F16, I64, ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes of the data section
};

// "[97, 48]"
std::string to_string(const StoredTensor& tensor);

// The header of `file` after every check of the format.
struct SafetensorsHeader {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t data_offset = 0;  // where the data section starts in the file

  // Throws kBadData naming `path` when there is no such tensor.
  const StoredTensor& at(const std::string& path, const std::string& name) const;
  // The stored bytes of a tensor. Requires: `file` is what the header was parsed from.
  std::span<const std::byte> bytes_of(const StoredTensor& tensor,
                                      std::span<const std::byte> file) const {
    return file.subspan(data_offset + tensor.begin, tensor.end - tensor.begin);
  }
};

// Throws kBadData naming `path`, tensor or byte, expected and found. Limits: 100,000,000 bytes,
// 65,536 tensors, names of 512 bytes, 64 dimensions.
SafetensorsHeader parse_safetensors_header(const std::string& path,
                                           std::span<const std::byte> file);

// A copy of the tensor whose stored bytes are given, at no particular alignment. F32, BF16, F64,
// I32 keep their type, F16 is widened to f32 exactly, I64 becomes i32 and every value must fit.
// Throws kBadData for other types and for more than 4 dimensions.
ag::Tensor load_tensor(const std::string& path, const std::string& name, const StoredTensor& tensor,
                       std::span<const std::byte> stored);

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  bool contains(const std::string& name) const { return header_.tensors.contains(name); }

  // Throws kBadData when there is no such tensor.
  const StoredTensor& at(const std::string& name) const;
  // The stored bytes, at no particular alignment.
  std::span<const std::byte> bytes(const std::string& name) const;
  // load_tensor() of it. The stored bytes leave memory.
  ag::Tensor load(const std::string& name) const;
  // core::MappedFile::release() of the stored bytes.
  void release(const std::string& name) const { file_.release(bytes(name)); }

 private:
  core::MappedFile file_;
  SafetensorsHeader header_;
};

// Writes the file as the reference implementation does, byte for byte: larger elements first, then
// by name, header padded with spaces to a multiple of 8. Appears whole or not at all.
// Requires: names are UTF-8 and none is "__metadata__" (kInternal).
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, ag::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace model
