#include "trainer/files/h5_set.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/io.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

std::vector<std::vector<H5Source>> deal(const std::vector<H5Source>& sources, uint64_t limit) {
  std::vector<std::vector<H5Source>> files(1);
  uint64_t filled = 0;
  for (const H5Source& source : sources) {
    if (filled > 0 && filled + source.bytes() > limit) {
      files.emplace_back();
      filled = 0;
    }
    files.back().push_back(source);
    filled += source.bytes();
  }
  return files;
}

std::string hash_of(const void* data, uint64_t bytes) {
  return core::hash_hex({static_cast<const std::byte*>(data), bytes});
}

std::vector<int64_t> extents_of(const ag::Shape& shape) {
  std::vector<int64_t> extents;
  for (int i = 0; i < shape.rank(); ++i) extents.push_back(shape[i]);
  return extents;
}

// So that reading back asks the disk; where the kernel declines, memory is read.
void drop_page_cache(const fs::path& path) {
  const int fd = core::io::open(path, O_RDONLY);
  if (fd < 0) return;
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  core::io::close(fd);
}

template <class T>
int64_t first_non_finite(const void* data, int64_t count) {
  const char* bytes = static_cast<const char*>(data);
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if (!std::isfinite(static_cast<double>(value))) return i;
  }
  return -1;
}

int64_t first_non_finite(const H5Dataset& dataset, const void* data) {
  switch (dataset.type) {
    case H5Type::f32:
      return first_non_finite<float>(data, dataset.shape.numel());
    case H5Type::bf16:
      return first_non_finite<ag::bf16>(data, dataset.shape.numel());
    case H5Type::f64:
      return first_non_finite<double>(data, dataset.shape.numel());
    case H5Type::i32:
    case H5Type::u8:
      break;
  }
  return -1;
}

// Scratch memory of the largest dataset so far.
class Scratch {
 public:
  std::byte* of(uint64_t bytes) {
    if (bytes > size_) data_ = std::make_unique_for_overwrite<std::byte[]>(size_ = bytes);
    return data_.get();
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  uint64_t size_ = 0;
};

void check_dataset(const fs::path& path, const H5Reader& reader, const H5Dataset& dataset,
                   const TensorEntry& entry, FiniteScan scan, Scratch& scratch) {
  const auto mismatch = [&](const char* field, std::string expected, std::string found) {
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = dataset.name,
                                    .field = field,
                                    .expected = std::move(expected),
                                    .found = std::move(found)});
  };
  if (extents_of(dataset.shape) != entry.shape)
    mismatch("shape", fmt::format("[{}]", fmt::join(entry.shape, ", ")), to_string(dataset.shape));
  if (name_of(dataset.type) != entry.dtype)
    mismatch("dtype", entry.dtype, std::string(name_of(dataset.type)));
  std::byte* data = scratch.of(dataset.bytes());
  reader.read(dataset, data);
  const std::string hash = hash_of(data, dataset.bytes());
  if (hash != entry.hash) mismatch("hash", entry.hash, hash);
  if (scan == FiniteScan::no) return;
  if (const int64_t index = first_non_finite(dataset, data); index >= 0)
    core::fail(ExitCode::kNumerical, {.path = path,
                                      .place = fmt::format("{}[{}]", dataset.name, index),
                                      .field = "value",
                                      .expected = "a finite number",
                                      .found = "NaN or infinity",
                                      .hint = "resume from an earlier checkpoint (--resume PATH)"});
}

}  // namespace

std::map<std::string, TensorEntry> write_h5_set(const fs::path& folder, const std::string& prefix,
                                                const std::vector<H5Source>& sources,
                                                uint64_t bytes_per_file, FiniteScan scan) {
  std::map<std::string, TensorEntry> entries;
  const auto files = deal(sources, bytes_per_file);
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name = fmt::format("{}-{:05}-of-{:05}.h5", prefix, i + 1, files.size());
    H5Writer writer(folder / name);
    for (H5Source source : files[i]) {
      const ag::Tensor loaded = source.load ? source.load() : ag::Tensor();
      if (source.load) source.data = loaded.view().data;
      entries[source.name] = {
          name, std::string(name_of(source.type)), extents_of(source.shape),
          source.hash.empty() ? hash_of(source.data, source.bytes()) : source.hash};
      writer.write(source);
      core::failpoint("checkpoint.during_write");
    }
    writer.close();
    drop_page_cache(folder / name);
  }
  core::failpoint("checkpoint.before_verify");
  check_h5_set(folder, entries, scan);
  return entries;
}

void check_h5_set(const fs::path& folder, const std::map<std::string, TensorEntry>& tensors,
                  FiniteScan scan) {
  std::map<std::string, std::set<std::string>> names_of_file;
  for (const auto& [name, entry] : tensors) names_of_file[entry.file].insert(name);
  Scratch scratch;
  for (const auto& [file, names] : names_of_file) {
    const fs::path path = folder / file;
    const H5Reader reader(path);
    for (const std::string& name : names) reader.find(name);
    for (const H5Dataset& dataset : reader.datasets()) {
      if (!names.contains(dataset.name))
        core::fail(ExitCode::kBadData, {.path = path,
                                        .place = dataset.name,
                                        .field = "dataset",
                                        .expected = "only those of the manifest",
                                        .found = "an unknown one"});
      check_dataset(path, reader, dataset, tensors.at(dataset.name), scan, scratch);
    }
  }
}

}  // namespace trainer
