#include "trainer/files/append_file.h"

#include <fcntl.h>

#include <cerrno>

#include "core/error.h"
#include "core/io.h"

namespace trainer {

int open_to_append(const std::filesystem::path& path) {
  const int fd = core::io::open(path, O_WRONLY | O_APPEND | O_CREAT);
  if (fd < 0) core::fail_errno("open", path, errno);
  return fd;
}

void write_all(int fd, const std::filesystem::path& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = core::io::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) core::fail_errno("write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace trainer
