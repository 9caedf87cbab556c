#include "trainer/files/file_lock.h"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/io.h"

namespace trainer {

FileLock::FileLock(FileLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ >= 0) core::io::close(fd_);  // the file stays: who waits for it holds it open
}

FileLock FileLock::try_lock(const std::filesystem::path& path) {
  FileLock lock(core::io::open(path, O_RDWR | O_CREAT | O_CLOEXEC), path);
  if (!lock) core::fail_errno("open", path, errno);
  if (core::io::lock_exclusively(lock.fd_) == 0) return lock;
  if (errno != EWOULDBLOCK) core::fail_errno("lock", path, errno);
  return {};
}

void FileLock::write(const std::string& text) const {
  if (core::io::truncate(fd_, 0) != 0) core::fail_errno("truncate", path_, errno);
  if (core::io::write(fd_, text.data(), text.size()) < 0) core::fail_errno("write", path_, errno);
}

bool FileLock::is_in_place() const {
  struct stat mine {};
  struct stat there {};
  if (core::io::stat(fd_, &mine) != 0) core::fail_errno("stat", path_, errno);
  const int fd = core::io::open(path_, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ESTALE) return false;
    core::fail_errno("open", path_, errno);  // too many open files say nothing of where it is
  }
  const int status = core::io::stat(fd, &there);
  const int error = errno;
  core::io::close(fd);
  if (status != 0) core::fail_errno("stat", path_, error);
  return mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

FileLock FileLock::wait_for(const std::filesystem::path& path,
                            const std::function<void()>& while_waiting) {
  while (true) {
    if (FileLock lock = try_lock(path)) return lock;
    if (while_waiting) while_waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace trainer
