// flock on a file: ends with the process, however that ends, so that nothing is left to clean up.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>

namespace trainer {

class FileLock {
 public:
  FileLock() = default;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

  // Makes the file if need be; its content is not touched. An empty lock if another process, or
  // another lock of this one, holds it. Throws kIo or kPermission.
  static FileLock try_lock(const std::filesystem::path& path);
  // Waits; `while_waiting` is called between two tries, and may throw.
  static FileLock wait_for(const std::filesystem::path& path,
                           const std::function<void()>& while_waiting = {});

  explicit operator bool() const { return fd_ >= 0; }
  // Whether the path still leads to the file that is locked: not where a folder above it was moved,
  // and another lock may be held at the path by now. Throws kIo or kPermission when that cannot be
  // known. Requires: *this.
  bool is_in_place() const;
  // The file's content becomes `text`, for those who find it locked. Throws kIo.
  // Requires: *this.
  void write(const std::string& text) const;

 private:
  FileLock(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}

  int fd_ = -1;
  std::filesystem::path path_;
};

}  // namespace trainer
