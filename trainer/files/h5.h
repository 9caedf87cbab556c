// Write-once HDF5 files of named tensors: contiguous, unfiltered, little endian, V110 bounds, no
// times, so that equal contents are equal bytes. bfloat16 is stored as uint16 with the attribute
// dtype="bfloat16". h5.cpp, h5_driver.cpp and h5_links.cpp are the only files that see HDF5.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/core/tensor.h"

namespace trainer {

// To be called at the start of main: without it a process that met a failed write dies inside
// HDF5's own exit handler. Silences HDF5's printing and forbids filter plugins. Idempotent.
void h5_initialize();

// "1.10.8"
std::string h5_library();

enum class H5Type : uint8_t { f32, bf16, f64, i32, u8 };

uint64_t size_of(H5Type type);
std::string_view name_of(H5Type type);  // float32, bfloat16, float64, int32, uint8
H5Type h5_type_of(ag::DType dtype);

// Row-major elements in memory that somebody else owns. The name may hold '/': nested groups.
struct H5Source {
  std::string name;
  ag::Shape shape;
  H5Type type;
  const void* data;
  std::string hash = {};  // XXH3-128 of the elements, where it is known already
  // Where there is no `data`: gives the tensor when it is its turn to be written.
  std::function<ag::Tensor()> load = {};

  uint64_t bytes() const { return static_cast<uint64_t>(shape.numel()) * size_of(type); }
};
H5Source h5_source(const std::string& name, const ag::Tensor& tensor);

class H5Writer {
 public:
  // Creates the file; one that exists is refused. Every failure throws kIo, and after the first
  // one the file is lost: the caller removes it.
  explicit H5Writer(std::filesystem::path path);
  ~H5Writer();
  H5Writer(const H5Writer&) = delete;
  H5Writer& operator=(const H5Writer&) = delete;

  void write(const H5Source& source);
  // Only a file that was closed without an error is whole, and durable.
  void close();

 private:
  void create_groups(const std::string& name);

  std::filesystem::path path_;
  int64_t file_ = -1;
  std::set<std::string> groups_;
};

struct H5Dataset {
  std::string name;
  ag::Shape shape;
  H5Type type;

  uint64_t bytes() const { return static_cast<uint64_t>(shape.numel()) * size_of(type); }
};

class H5Reader {
 public:
  // Opens and lists the file. Throws kBadData for all that H5Writer does not write: links, filters,
  // external storage, other types, rank above 4, sizes beyond the file, also of all datasets
  // together, groups above 16 deep. kIo when the machine could not read it.
  explicit H5Reader(std::filesystem::path path);
  ~H5Reader();
  H5Reader(const H5Reader&) = delete;
  H5Reader& operator=(const H5Reader&) = delete;

  const std::vector<H5Dataset>& datasets() const { return datasets_; }  // ascending by name
  const H5Dataset& find(const std::string& name) const;                 // kBadData if missing

  // `out` has room for dataset.bytes().
  void read(const H5Dataset& dataset, void* out) const;
  // Throws kBadData when dtype uint8 or, if given, when the shape differs.
  ag::Tensor read_tensor(const std::string& name, const ag::Shape* shape = nullptr) const;

 private:
  void list();
  H5Dataset describe(const std::string& name, uint64_t file_bytes) const;

  std::filesystem::path path_;
  int64_t file_ = -1;
  std::vector<H5Dataset> datasets_;
};

// Shape of 0 to 4 extents; rank above 4 is the caller's error (kInternal).
ag::Shape make_shape(const std::vector<int64_t>& extents);

}  // namespace trainer
