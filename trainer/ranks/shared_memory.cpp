#include "trainer/ranks/shared_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fcntl.h>

#include <cerrno>
#include <sstream>
#include <string>

namespace trainer {
namespace {

// Closes at the end of the scope: what is mapped stays mapped.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// How the other ranks find a block, and know it when they have found it.
struct Address {
  int64_t process = 0;
  int fd = -1;
  uint64_t device = 0, inode = 0, bytes = 0;
};

Address address_of(int fd, size_t bytes) {
  struct stat info {};
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fstat(fd, &info) != 0)
    return {};
  return {::getpid(), fd, info.st_dev, info.st_ino, bytes};
}

std::vector<Address> exchange_addresses(Comm& comm, const Address& own) {
  std::string text;
  for (const std::string& line : comm.gather(
           fmt::format("{} {} {} {} {}\n", own.process, own.fd, own.device, own.inode, own.bytes)))
    text += line;
  std::istringstream lines(comm.broadcast(text));
  std::vector<Address> addresses(static_cast<size_t>(comm.size()));
  for (Address& a : addresses) lines >> a.process >> a.fd >> a.device >> a.inode >> a.bytes;
  return addresses;
}

// Empty when the block cannot be reached: another process namespace or host, no permission.
std::span<std::byte> map(const Address& address) {
  if (address.fd < 0) return {};
  const Descriptor file(::open(fmt::format("/proc/{}/fd/{}", address.process, address.fd).c_str(),
                               O_RDWR | O_CLOEXEC));
  struct stat info {};
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0 || info.st_dev != address.device ||
      info.st_ino != address.inode)
    return {};
  void* data = ::mmap(nullptr, address.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return {};
  ::madvise(data, address.bytes, MADV_HUGEPAGE);  // where the system allows it for shared memory
  return {static_cast<std::byte*>(data), address.bytes};
}

}  // namespace

std::unique_ptr<SharedMemory> SharedMemory::create(Comm& comm, size_t bytes) {
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  const Descriptor own(
      comm.local_size() == comm.size() ? ::memfd_create("mha2mla gradients", MFD_CLOEXEC) : -1);
  bool reached = true;
  for (const Address& address : exchange_addresses(comm, address_of(own.get(), bytes))) {
    memory->blocks_.push_back(map(address));
    reached = reached && !memory->blocks_.back().empty();
  }
  // Also the barrier after which nobody opens a descriptor any more.
  return comm.max(reached ? 0 : 1) == 0 ? std::move(memory) : nullptr;
}

SharedMemory::~SharedMemory() {
  for (const std::span<std::byte>& block : blocks_)
    if (!block.empty()) ::munmap(block.data(), block.size());
}

}  // namespace trainer
