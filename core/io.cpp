#include "core/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace core::io {
namespace {

std::atomic<Observer*> installed{nullptr};

// `action` takes the number of bytes to ask for and returns what the system call does.
template <class Action>
int64_t perform(const Call& call, Action&& action) {
  Observer* const observer = installed.load(std::memory_order_relaxed);
  if (observer == nullptr) return action(call.size);
  const Verdict verdict = observer->before(call);
  int64_t result = -1;
  int error_number = verdict.error_number;
  if (error_number == 0) {
    result = verdict.swallow ? static_cast<int64_t>(call.data == nullptr ? 0 : call.size)
                             : action(std::min(call.size, verdict.limit));
    error_number = errno;
  } else if (call.operation == Operation::close) {
    action(0);  // a failed close(2) releases the descriptor too
  }
  observer->after(call, result);
  errno = error_number;
  return result;
}

int64_t list_names(const char* folder, std::vector<std::string>& names) {
  DIR* const stream = ::opendir(folder);
  if (stream == nullptr) return -1;
  errno = 0;  // readdir says by errno alone whether it failed
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int error_number = errno;
  ::closedir(stream);
  errno = error_number;
  return error_number == 0 ? 0 : -1;
}

}  // namespace

const char* name_of(Operation operation) {
  switch (operation) {
    case Operation::open:
      return "open";
    case Operation::close:
      return "close";
    case Operation::stat:
      return "stat";
    case Operation::map:
      return "map";
    case Operation::lock:
      return "lock";
    case Operation::read:
      return "read";
    case Operation::write:
      return "write";
    case Operation::truncate:
      return "truncate";
    case Operation::sync:
      return "sync";
    case Operation::rename:
      return "rename";
    case Operation::exchange:
      return "exchange";
    case Operation::unlink:
      return "unlink";
    case Operation::rmdir:
      return "rmdir";
    case Operation::mkdir:
      return "mkdir";
    case Operation::list:
      return "list";
    case Operation::statvfs:
      return "statvfs";
  }
  return "unknown";
}

Observer* install_observer(Observer* observer) noexcept { return installed.exchange(observer); }

int open(const fs::path& path, int flags, mode_t mode) {
  return static_cast<int>(
      perform({.operation = Operation::open, .path = path.c_str(), .flags = flags},
              [&](uint64_t) { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }));
}

int close(int fd) {
  return static_cast<int>(
      perform({.operation = Operation::close, .fd = fd}, [&](uint64_t) { return ::close(fd); }));
}

int stat(int fd, struct stat* info) {
  return static_cast<int>(perform({.operation = Operation::stat, .fd = fd},
                                  [&](uint64_t) { return ::fstat(fd, info); }));
}

void* map(int fd, size_t size) {
  void* address = nullptr;
  perform({.operation = Operation::map, .fd = fd, .size = size}, [&](uint64_t) {
    address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) address = nullptr;
    return address == nullptr ? -1 : 0;
  });
  return address;
}

int lock_exclusively(int fd) {
  return static_cast<int>(perform({.operation = Operation::lock, .fd = fd},
                                  [&](uint64_t) { return ::flock(fd, LOCK_EX | LOCK_NB); }));
}

ssize_t read(int fd, void* out, size_t size) {
  return perform({.operation = Operation::read, .fd = fd, .size = size},
                 [&](uint64_t bytes) { return ::read(fd, out, bytes); });
}

ssize_t read_at(int fd, void* out, size_t size, int64_t offset) {
  return perform({.operation = Operation::read, .fd = fd, .size = size, .offset = offset},
                 [&](uint64_t bytes) { return ::pread(fd, out, bytes, offset); });
}

ssize_t write(int fd, const void* data, size_t size) {
  return perform({.operation = Operation::write, .fd = fd, .data = data, .size = size},
                 [&](uint64_t bytes) { return ::write(fd, data, bytes); });
}

ssize_t write_at(int fd, const void* data, size_t size, int64_t offset) {
  return perform(
      {.operation = Operation::write, .fd = fd, .data = data, .size = size, .offset = offset},
      [&](uint64_t bytes) { return ::pwrite(fd, data, bytes, offset); });
}

int truncate(int fd, uint64_t size) {
  return static_cast<int>(
      perform({.operation = Operation::truncate, .fd = fd, .size = size},
              [&](uint64_t) { return ::ftruncate(fd, static_cast<off_t>(size)); }));
}

int sync(int fd) {
  return static_cast<int>(
      perform({.operation = Operation::sync, .fd = fd}, [&](uint64_t) { return ::fsync(fd); }));
}

int rename(const fs::path& from, const fs::path& to) {
  return static_cast<int>(
      perform({.operation = Operation::rename, .path = from.c_str(), .target = to.c_str()},
              [&](uint64_t) { return ::rename(from.c_str(), to.c_str()); }));
}

int rename_to_new(const fs::path& from, const fs::path& to) {
  return static_cast<int>(perform({.operation = Operation::rename,
                                   .path = from.c_str(),
                                   .target = to.c_str(),
                                   .flags = RENAME_NOREPLACE},
                                  [&](uint64_t) {
                                    return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                                                       RENAME_NOREPLACE);
                                  }));
}

int exchange(const fs::path& a, const fs::path& b) {
  return static_cast<int>(perform(
      {.operation = Operation::exchange, .path = a.c_str(), .target = b.c_str()}, [&](uint64_t) {
        return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
      }));
}

int unlink(const fs::path& path) {
  return static_cast<int>(perform({.operation = Operation::unlink, .path = path.c_str()},
                                  [&](uint64_t) { return ::unlink(path.c_str()); }));
}

int rmdir(const fs::path& path) {
  return static_cast<int>(perform({.operation = Operation::rmdir, .path = path.c_str()},
                                  [&](uint64_t) { return ::rmdir(path.c_str()); }));
}

int mkdir(const fs::path& path) {
  return static_cast<int>(perform({.operation = Operation::mkdir, .path = path.c_str()},
                                  [&](uint64_t) { return ::mkdir(path.c_str(), 0777); }));
}

int list(const fs::path& folder, std::vector<std::string>& names) {
  return static_cast<int>(perform({.operation = Operation::list, .path = folder.c_str()},
                                  [&](uint64_t) { return list_names(folder.c_str(), names); }));
}

int space(const fs::path& path, struct statvfs* info) {
  return static_cast<int>(perform({.operation = Operation::statvfs, .path = path.c_str()},
                                  [&](uint64_t) { return ::statvfs(path.c_str(), info); }));
}

}  // namespace core::io
