// The decompressed bytes of a plain, .gz or .zst file, in order, with bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace data {

// Thrown by read() for a compressed stream that is damaged, or holds out of all proportion more
// than it takes up. The caller knows the line and says so.
struct BadStream {
  std::string format;  // "gzip"
  std::string expected, found, hint;
};

// The bytes as they are stored.
class StoredBytes {
 public:
  virtual ~StoredBytes() = default;

  // Up to `capacity` bytes; 0 only at the end. Throws as ByteSource::read does.
  virtual size_t read(char* out, size_t capacity) = 0;
  virtual uint64_t size() const = 0;
  virtual uint64_t done() const = 0;  // bytes read
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Fills up to `capacity` bytes; 0 only at the end. Throws BadStream, or core::Error (kIo)
  // when reading fails, or kBadData when the file changed while it was read.
  virtual size_t read(char* out, size_t capacity) = 0;

  // Bytes of the file on disk, and how many of them have been read.
  virtual uint64_t input_size() const = 0;
  virtual uint64_t input_read() const = 0;
};

// By extension: .gz, .zst, anything else is plain. Throws kMissingInput / kPermission when it
// cannot be opened, kBadData when a plain file starts like gzip, zstd, zip or Parquet.
std::unique_ptr<ByteSource> open_byte_source(const std::filesystem::path& path);

// The same for any stored bytes; `path` only names them.
std::unique_ptr<ByteSource> make_byte_source(const std::filesystem::path& path,
                                             std::unique_ptr<StoredBytes> stored);

}  // namespace data
