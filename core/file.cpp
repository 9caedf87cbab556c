#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/io.h"

namespace core {
namespace {

// Owns a file descriptor for the length of a scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) io::close(fd);
  }
};

Descriptor open_or_fail(const fs::path& path, int flags) {
  // O_NONBLOCK: opening a FIFO must lead to the refusal below, not wait for a writer.
  const int fd = io::open(path, flags | O_NONBLOCK);
  if (fd < 0) fail_errno("open", path, errno);
  return {fd};
}

uint64_t regular_file_size(int fd, const fs::path& path) {
  struct stat info {};
  if (io::stat(fd, &info) != 0) fail_errno("stat", path, errno);
  if (!S_ISREG(info.st_mode))
    fail(ExitCode::kMissingInput,
         {.path = path, .field = "file", .expected = "a regular file", .found = "something else"});
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor d = open_or_fail(path, O_RDONLY);
  size_ = regular_file_size(d.fd, path);
  if (size_ == 0) return;  // an empty map is not allowed by mmap; an empty span is fine
  void* p = io::map(d.fd, size_);
  if (p == nullptr) fail_errno("mmap", path, errno);
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<size_t>(part.data() - data_), begin = offset / page * page;
  if (part.empty()) return;
  // Advice: a kernel that declines keeps the pages.
  ::madvise(const_cast<std::byte*>(data_) + begin, offset + part.size() - begin, MADV_DONTNEED);
}

void for_each_piece(const fs::path& path,
                    const std::function<void(std::span<const std::byte>)>& use) {
  constexpr size_t kPiece = size_t{1} << 20;
  const Descriptor d = open_or_fail(path, O_RDONLY);
  regular_file_size(d.fd, path);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kPiece);
  while (true) {
    const ssize_t n = io::read(d.fd, buffer.get(), kPiece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path, errno);
    if (n == 0) return;
    use({buffer.get(), static_cast<size_t>(n)});
  }
}

std::string read_text(const fs::path& path, uint64_t max_bytes) {
  const Descriptor d = open_or_fail(path, O_RDONLY);
  const uint64_t size = regular_file_size(d.fd, path);
  if (size > max_bytes)
    fail(ExitCode::kBadData, {.path = path,
                              .field = "size",
                              .expected = "at most " + std::to_string(max_bytes) + " bytes",
                              .found = std::to_string(size)});
  std::string text(size, '\0');
  for (size_t done = 0; done < size;) {
    const ssize_t n = io::read(d.fd, text.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path, errno);
    if (n == 0)
      fail(ExitCode::kIo,
           {.path = path, .field = "read", .found = "the file shrank while reading"});
    done += static_cast<size_t>(n);
  }
  return text;
}

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp." + std::to_string(::getpid())) {
  fd_ = io::open(temporary_, O_WRONLY | O_CREAT | O_TRUNC);
  if (fd_ < 0) fail_errno("create", path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  io::close(fd_);
  io::unlink(temporary_);
}

void AtomicFile::write(const void* data, size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = io::write(fd_, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path_, errno);
    p += n;
    size -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  // After a failed fsync the page cache is not to be trusted: give the file up, never retry.
  if (io::sync(fd_) != 0) fail_errno("fsync", path_, errno);
  const int fd = std::exchange(fd_, -1);
  if (io::close(fd) != 0) {
    const int error = errno;
    io::unlink(temporary_);
    fail_errno("close", path_, error);
  }
  if (io::rename(temporary_, path_) != 0) {
    const int error = errno;
    io::unlink(temporary_);
    fail_errno("rename", path_, error);
  }
  sync_directory(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void copy_file_atomically(const fs::path& from, const fs::path& to) {
  AtomicFile file(to);
  for_each_piece(from,
                 [&](std::span<const std::byte> piece) { file.write(piece.data(), piece.size()); });
  file.commit();
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void sync_directory(const fs::path& directory) {
  const Descriptor d = open_or_fail(directory, O_RDONLY | O_DIRECTORY);
  // EINVAL, ENOTSUP: a file system that keeps its folders in order by itself.
  if (io::sync(d.fd) != 0 && errno != EINVAL && errno != ENOTSUP)
    fail_errno("fsync", directory, errno);
}

void sync_file(const fs::path& path) {
  const Descriptor d = open_or_fail(path, O_RDONLY);
  if (io::sync(d.fd) != 0) fail_errno("fsync", path, errno);
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (io::rename(from, to) != 0) fail_errno("rename", from, errno);
  // The new name first: until both are durable the old one must be.
  sync_directory(folder_of(to));
  if (folder_of(from) != folder_of(to)) sync_directory(folder_of(from));
}

void create_directories(const fs::path& path) {
  std::error_code ignored;
  if (path.empty() || fs::is_directory(path, ignored)) return;
  core::create_directories(path.parent_path());
  core::create_directory(path);
}

void create_directory(const fs::path& path) {
  std::error_code ignored;
  if (io::mkdir(path) != 0) {
    const int error = errno;
    if (error == EEXIST && fs::is_directory(path, ignored)) return;
    fail_errno("create folder", path, error == EEXIST ? ENOTDIR : error);
  }
  try {
    sync_directory(folder_of(path));
  } catch (const Error&) {
    io::rmdir(path);
    throw;
  }
}

std::vector<fs::path> list_directory(const fs::path& folder) {
  std::vector<std::string> names;
  if (io::list(folder, names) != 0) fail_errno("list folder", folder, errno);
  std::sort(names.begin(), names.end());
  std::vector<fs::path> paths;
  for (const std::string& name : names) paths.push_back(folder / name);
  return paths;
}

bool remove_tree(const fs::path& path) noexcept try {
  if (io::unlink(path) == 0 || errno == ENOENT) return true;
  std::vector<std::string> names;
  const bool listed = io::list(path, names) == 0;
  bool all = listed;
  for (const std::string& name : names) all = remove_tree(path / name) && all;
  return io::rmdir(path) == 0 && all;
} catch (const std::exception&) {
  return false;  // out of memory
}

bool truncate_to_nothing(const fs::path& path) noexcept {
  const Descriptor d{io::open(path, O_WRONLY | O_NONBLOCK)};
  return d.fd >= 0 && io::truncate(d.fd, 0) == 0;
}

uint64_t free_disk_bytes(const fs::path& existing_directory) {
  struct statvfs info {};
  if (io::space(existing_directory, &info) != 0) fail_errno("statvfs", existing_directory, errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace core
