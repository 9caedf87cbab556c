// Fails one file operation, or all from one on: the tool of a sweep over every operation.
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <string>

#include "core/io.h"

namespace test_support {

enum class FaultKind { full_disk, quota, io_error, short_write };
enum class FaultLength { once, from_then_on };

inline bool may_need_space(const core::io::Call& call) {
  using core::io::Operation;
  switch (call.operation) {
    case Operation::open:
      return (call.flags & O_CREAT) != 0;
    case Operation::write:
    case Operation::truncate:
    case Operation::sync:
    case Operation::close:
    case Operation::rename:
    case Operation::exchange:
    case Operation::mkdir:
      return true;
    default:
      return false;
  }
}

// Installed for its lifetime. Counts, from 1, the calls that can fail in the way of `kind`: any
// call with EIO, those that may need space with ENOSPC and EDQUOT, writes of several bytes by being
// cut.
class IoFault : public core::io::Observer {
 public:
  IoFault(FaultKind kind, FaultLength length, int64_t nth)
      : kind_(kind), length_(length), nth_(nth), earlier_(core::io::install_observer(this)) {}
  IoFault(const IoFault&) = delete;
  IoFault& operator=(const IoFault&) = delete;
  ~IoFault() override { core::io::install_observer(earlier_); }

  core::io::Verdict before(const core::io::Call& call) override {
    const std::lock_guard lock(mutex_);
    if (!applies(call) || ++count_ < nth_ || (count_ > nth_ && length_ == FaultLength::once))
      return {};
    if (count_ == nth_)
      first_ = {call.operation, call.path == nullptr ? paths_[call.fd] : std::string(call.path),
                renamed_};
    switch (kind_) {
      case FaultKind::full_disk:
        return {.error_number = ENOSPC};
      case FaultKind::quota:
        return {.error_number = EDQUOT};
      case FaultKind::io_error:
        return {.error_number = EIO};
      case FaultKind::short_write:
        break;
    }
    return {.limit = call.size / 2};
  }

  void after(const core::io::Call& call, int64_t result) override {
    const std::lock_guard lock(mutex_);
    if (call.operation == core::io::Operation::open && result >= 0)
      paths_[static_cast<int>(result)] = call.path;
    if (call.operation == core::io::Operation::rename && result == 0) renamed_ = call.target;
  }

  struct Fired {
    core::io::Operation operation{};
    std::string path;
    std::string renamed;  // the newest name that an earlier rename made
  };
  bool fired() const { return count_ >= nth_; }
  const Fired& first() const { return first_; }  // Requires: fired()

 private:
  bool applies(const core::io::Call& call) const {
    if (kind_ == FaultKind::short_write)
      return call.operation == core::io::Operation::write && call.size > 1;
    return kind_ == FaultKind::io_error || may_need_space(call);
  }

  const FaultKind kind_;
  const FaultLength length_;
  const int64_t nth_;
  core::io::Observer* const earlier_;
  std::mutex mutex_;
  int64_t count_ = 0;
  Fired first_;
  std::map<int, std::string> paths_;
  std::string renamed_;
};

}  // namespace test_support
