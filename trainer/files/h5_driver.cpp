#include "trainer/files/h5_driver.h"

#include <fcntl.h>
#include <hdf5.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "core/io.h"

namespace trainer {
namespace {

constexpr auto kMaxAddress = static_cast<haddr_t>(std::numeric_limits<int64_t>::max());

// Invariant: HDF5 sees a pointer to `base`, which is the first member.
struct File {
  H5FD_t base{};
  int fd = -1;
  dev_t device = 0;
  ino_t inode = 0;
  haddr_t allocated = 0;  // "EOA": what HDF5 has given out
  haddr_t size = 0;       // "EOF"
  bool writable = false;
  int error_number = 0;  // of the first failed write, truncate or sync: no more of them
};

File& file_of(H5FD_t* base) { return *reinterpret_cast<File*>(base); }
const File& file_of(const H5FD_t* base) { return *reinterpret_cast<const File*>(base); }

// Pushes "OPERATION failed: errno = N" for fail_h5() to find.
herr_t push_error(const char* operation, int line, hid_t kind, int error_number) {
  H5Epush2(H5E_DEFAULT, __FILE__, operation, static_cast<unsigned>(line), H5E_ERR_CLS, H5E_VFL,
           kind, "%s failed: errno = %d", operation, error_number);
  return -1;
}

herr_t poison(File& file, const char* operation, int line, hid_t kind, int error_number) {
  if (file.error_number == 0) file.error_number = error_number;
  return push_error(operation, line, kind, error_number);
}

bool in_range(haddr_t address, size_t size) {
  return address <= kMaxAddress && size <= kMaxAddress - address;
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t, haddr_t max_address) {
  if (name == nullptr || *name == '\0' || max_address == 0) {
    push_error("open", __LINE__, H5E_BADVALUE, EINVAL);
    return nullptr;
  }
  auto file = std::unique_ptr<File>(new (std::nothrow) File);
  if (file == nullptr) {
    push_error("open", __LINE__, H5E_NOSPACE, ENOMEM);
    return nullptr;
  }
  file->writable = (flags & H5F_ACC_RDWR) != 0;
  const int mode =
      (file->writable ? O_RDWR : O_RDONLY) | ((flags & H5F_ACC_TRUNC) != 0 ? O_TRUNC : 0) |
      ((flags & H5F_ACC_CREAT) != 0 ? O_CREAT : 0) | ((flags & H5F_ACC_EXCL) != 0 ? O_EXCL : 0);
  file->fd = core::io::open(name, mode);
  if (file->fd < 0) {
    push_error("open", __LINE__, H5E_CANTOPENFILE, errno);
    return nullptr;
  }
  struct stat info {};
  if (core::io::stat(file->fd, &info) != 0) {
    push_error("stat", __LINE__, H5E_BADFILE, errno);
    core::io::close(file->fd);
    return nullptr;
  }
  file->size = static_cast<haddr_t>(info.st_size);
  file->device = info.st_dev;
  file->inode = info.st_ino;
  return &file.release()->base;
}

herr_t close_file(H5FD_t* base) {
  const std::unique_ptr<File> file(&file_of(base));
  herr_t result = file->error_number == 0 ? 0 : -1;
  if (result == 0 && file->writable && core::io::sync(file->fd) != 0)
    result = push_error("fsync", __LINE__, H5E_CANTFLUSH, errno);
  if (core::io::close(file->fd) != 0)
    result = push_error("close", __LINE__, H5E_CANTCLOSEFILE, errno);
  return result;
}

int compare(const H5FD_t* left, const H5FD_t* right) {
  const File &a = file_of(left), &b = file_of(right);
  if (a.device != b.device) return a.device < b.device ? -1 : 1;
  if (a.inode != b.inode) return a.inode < b.inode ? -1 : 1;
  return 0;
}

// Those of sec2: they decide where HDF5 puts what.
herr_t query(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr)
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_POSIX_COMPAT_HANDLE |
             H5FD_FEAT_SUPPORTS_SWMR_IO | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t get_allocated(const H5FD_t* base, H5FD_mem_t) { return file_of(base).allocated; }

herr_t set_allocated(H5FD_t* base, H5FD_mem_t, haddr_t address) {
  file_of(base).allocated = address;
  return 0;
}

haddr_t get_size(const H5FD_t* base, H5FD_mem_t) { return file_of(base).size; }

herr_t get_handle(H5FD_t* base, hid_t, void** handle) {
  *handle = &file_of(base).fd;
  return 0;
}

// What lies beyond the end of the file reads as zeros, as HDF5 wants it.
herr_t read_file(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* out) {
  if (!in_range(address, size)) return push_error("read", __LINE__, H5E_OVERFLOW, EOVERFLOW);
  const File& file = file_of(base);
  char* p = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = core::io::read_at(file.fd, p, size, static_cast<int64_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return push_error("read", __LINE__, H5E_READERROR, errno);
    if (n == 0) {
      std::memset(p, 0, size);
      return 0;
    }
    p += n;
    address += static_cast<haddr_t>(n);
    size -= static_cast<size_t>(n);
  }
  return 0;
}

herr_t write_file(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* data) {
  File& file = file_of(base);
  if (file.error_number != 0)
    return push_error("write", __LINE__, H5E_WRITEERROR, file.error_number);
  if (!in_range(address, size)) return poison(file, "write", __LINE__, H5E_OVERFLOW, EOVERFLOW);
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = core::io::write_at(file.fd, p, size, static_cast<int64_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return poison(file, "write", __LINE__, H5E_WRITEERROR, n < 0 ? errno : ENOSPC);
    p += n;
    address += static_cast<haddr_t>(n);
    size -= static_cast<size_t>(n);
  }
  file.size = std::max(file.size, address);
  return 0;
}

herr_t truncate_file(H5FD_t* base, hid_t, hbool_t) {
  File& file = file_of(base);
  if (!file.writable || file.allocated == file.size) return 0;
  if (file.error_number != 0)
    return push_error("truncate", __LINE__, H5E_SEEKERROR, file.error_number);
  if (core::io::truncate(file.fd, file.allocated) != 0)
    return poison(file, "truncate", __LINE__, H5E_SEEKERROR, errno);
  file.size = file.allocated;
  return 0;
}

hid_t register_driver() {
  H5FD_class_t driver{};
  driver.name = "mha2mla";
  driver.maxaddr = kMaxAddress;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare;
  driver.query = query;
  driver.get_eoa = get_allocated;
  driver.set_eoa = set_allocated;
  driver.get_eof = get_size;
  driver.get_handle = get_handle;
  driver.read = read_file;
  driver.write = write_file;
  driver.truncate = truncate_file;
  constexpr H5FD_mem_t kMap[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(kMap), std::end(kMap), driver.fl_map);
  return H5FDregister(&driver);
}

}  // namespace

bool use_h5_driver(int64_t access_list) {
  static const hid_t driver = register_driver();
  return driver >= 0 && H5Pset_driver(access_list, driver, nullptr) >= 0;
}

}  // namespace trainer
