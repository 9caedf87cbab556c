// The one layer over system calls on files. Each function is the call of its name: -1 and errno on
// failure, no retry. An observer sees every call and can fail, shorten or swallow it: tests sweep
// over all failures and rebuild what a power loss would leave (tests/support/).
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace core::io {

namespace fs = std::filesystem;

enum class Operation : uint8_t {
  open,
  close,
  stat,
  map,
  lock,
  read,
  write,
  truncate,
  sync,
  rename,
  exchange,
  unlink,
  rmdir,
  mkdir,
  list,
  statvfs,
};

const char* name_of(Operation operation);

struct Call {
  Operation operation;
  const char* path = nullptr;    // of a call on a name
  const char* target = nullptr;  // the other name of rename and exchange
  int fd = -1;                   // of a call on an open file
  const void* data = nullptr;    // write: the bytes
  uint64_t size = 0;             // read, write: bytes asked for; truncate: the new size
  int64_t offset = -1;           // read, write: -1 is the position of the file
  int flags = 0;                 // open: O_*; rename: RENAME_*
};

// What shall happen to a call.
struct Verdict {
  int error_number = 0;         // other than 0: not carried out, fails with it
  bool swallow = false;         // not carried out, reported as done
  uint64_t limit = UINT64_MAX;  // read, write: at most so many bytes
};

class Observer {
 public:
  virtual ~Observer() = default;
  // Both run in the thread of the call, several at once; they must not throw.
  virtual Verdict before(const Call& call) = 0;
  // `result` as the caller will see it: -1 is a failure.
  virtual void after(const Call& call, int64_t result) = 0;
};

// Returns the observer until now; nullptr is none. Requires: no call is under way in another
// thread.
Observer* install_observer(Observer* observer) noexcept;

int open(const fs::path& path, int flags, mode_t mode = 0644);
// The descriptor is gone whatever is returned.
int close(int fd);
int stat(int fd, struct stat* info);
// A private read-only map of the first `size` bytes; nullptr on failure.
void* map(int fd, size_t size);
int lock_exclusively(int fd);  // flock, does not wait

ssize_t read(int fd, void* out, size_t size);
ssize_t read_at(int fd, void* out, size_t size, int64_t offset);
ssize_t write(int fd, const void* data, size_t size);
ssize_t write_at(int fd, const void* data, size_t size, int64_t offset);
int truncate(int fd, uint64_t size);
int sync(int fd);  // fsync, also of a folder

int rename(const fs::path& from, const fs::path& to);
int rename_to_new(const fs::path& from, const fs::path& to);  // EEXIST if `to` is there
int exchange(const fs::path& a, const fs::path& b);
int unlink(const fs::path& path);
int rmdir(const fs::path& path);
int mkdir(const fs::path& path);
int list(const fs::path& folder, std::vector<std::string>& names);  // unsorted, without . and ..
int space(const fs::path& path, struct statvfs* info);

}  // namespace core::io
