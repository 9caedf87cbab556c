// Files: read whole or mapped, written so that they appear whole or not at all.
// Every failure throws core::Error with the path and the reason (kMissingInput, kPermission, kIo).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace core {

namespace fs = std::filesystem;

// A read-only memory map. Move-only; the bytes live as long as the object.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // The pages of `part` of bytes() need not stay in memory: reading them again asks the file.
  void release(std::span<const std::byte> part) const;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Calls use(piece) for the bytes of a file from front to end, some of them in memory at a time. A
// disk that cannot be read is kIo here, where touching a map would be a signal.
void for_each_piece(const fs::path& path,
                    const std::function<void(std::span<const std::byte>)>& use);

// The whole file as text; refuses files above `max_bytes` (kBadData) before reading them.
std::string read_text(const fs::path& path, uint64_t max_bytes = uint64_t{1} << 30);

// Writes to a temporary name beside `path`, syncs it, renames it, syncs the folder. Destroyed
// before commit(), it removes the temporary file and `path` is as it was.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
};

void write_file_atomically(const fs::path& path, std::string_view bytes);
void copy_file_atomically(const fs::path& from, const fs::path& to);

// Makes names in a folder durable (rename, create, remove).
void sync_directory(const fs::path& directory);
void sync_file(const fs::path& path);

// rename(2); durable when it returns, in both folders.
void rename_durably(const fs::path& from, const fs::path& to);

// mkdir -p; what it made is durable, and on failure `path` is as it was.
void create_directories(const fs::path& path);
// The last folder of `path` only: those above must be there.
void create_directory(const fs::path& path);

// The paths in `folder`, in ascending order.
std::vector<fs::path> list_directory(const fs::path& folder);

// rm -r of what may be there; goes on after a failure, and is false if something stays.
bool remove_tree(const fs::path& path) noexcept;

// Frees the space of a file even if somebody holds it open; false if it cannot.
bool truncate_to_nothing(const fs::path& path) noexcept;

// The folder that holds `path`, "." for a bare name.
fs::path folder_of(const fs::path& path);

uint64_t free_disk_bytes(const fs::path& existing_directory);

}  // namespace core
