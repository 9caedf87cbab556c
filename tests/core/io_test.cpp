#include "core/io.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/temporary_folder.h"

namespace core::io {
namespace {

// Installed for the length of a scope; `decide` sees each call.
class Watch : public Observer {
 public:
  explicit Watch(std::function<Verdict(const Call&)> decide)
      : decide_(std::move(decide)), earlier_(install_observer(this)) {}
  ~Watch() override { install_observer(earlier_); }

  Verdict before(const Call& call) override {
    seen_ += std::string(name_of(call.operation)) + " ";
    return decide_(call);
  }
  void after(const Call&, int64_t result) override { failures_ += result < 0; }

  const std::string& seen() const { return seen_; }
  int failures() const { return failures_; }

 private:
  std::function<Verdict(const Call&)> decide_;
  Observer* earlier_;
  std::string seen_;
  int failures_ = 0;
};

Verdict allow(const Call&) { return {}; }

TEST(Io, ObserverSeesTheCallsOfAnAtomicWrite) {
  const test_support::TemporaryFolder folder;
  const Watch watch(allow);
  write_file_atomically(folder.path() / "a", "text");
  EXPECT_EQ(watch.seen(), "open write sync close rename open sync close ");
  EXPECT_EQ(watch.failures(), 0);
}

TEST(Io, FailedCallsAreNotCarriedOut) {
  const test_support::TemporaryFolder folder;
  write_file_atomically(folder.path() / "a", "old");
  {
    const Watch watch([](const Call& call) {
      return Verdict{.error_number = call.operation == Operation::rename ? EIO : 0};
    });
    EXPECT_THROW(write_file_atomically(folder.path() / "a", "new"), Error);
    EXPECT_EQ(watch.failures(), 1);
  }
  EXPECT_EQ(read_text(folder.path() / "a"), "old");
  EXPECT_EQ(list_directory(folder.path()).size(), 1u) << "the temporary file is still there";
}

TEST(Io, FailedCloseReleasesTheDescriptor) {
  const test_support::TemporaryFolder folder;
  const int fd = open(folder.path() / "a", O_WRONLY | O_CREAT);
  ASSERT_GE(fd, 0);
  {
    const Watch watch([](const Call&) { return Verdict{.error_number = EIO}; });
    EXPECT_EQ(close(fd), -1);
    EXPECT_EQ(errno, EIO);
  }
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TEST(Io, ShortReadsAndWritesAreGoneOnWith) {
  const test_support::TemporaryFolder folder;
  const Watch watch([](const Call&) { return Verdict{.limit = 1}; });
  write_file_atomically(folder.path() / "a", "text");
  EXPECT_EQ(read_text(folder.path() / "a"), "text");
}

TEST(Io, SwallowedWritesLookDone) {
  const test_support::TemporaryFolder folder;
  {
    const Watch watch(
        [](const Call& call) { return Verdict{.swallow = call.operation == Operation::write}; });
    write_file_atomically(folder.path() / "a", "text");
  }
  EXPECT_EQ(read_text(folder.path() / "a"), "");
}

TEST(Io, CreatedFoldersAreSyncedInTheirParents) {
  const test_support::TemporaryFolder folder;
  const Watch watch(allow);
  core::create_directories(folder.path() / "a" / "b");
  EXPECT_EQ(watch.seen(), "mkdir open sync close mkdir open sync close ");
  EXPECT_TRUE(fs::is_directory(folder.path() / "a" / "b"));
  core::create_directories(folder.path() / "a" / "b" / "");
  EXPECT_EQ(watch.failures(), 0);
  write_file_atomically(folder.path() / "file", "");
  EXPECT_THROW(core::create_directories(folder.path() / "file"), Error);
  EXPECT_THROW(core::create_directories(folder.path() / "file" / "below"), Error);
}

TEST(Io, RemovesTrees) {
  const test_support::TemporaryFolder folder;
  core::create_directories(folder.path() / "a" / "b");
  write_file_atomically(folder.path() / "a" / "b" / "c", "text");
  fs::create_symlink(folder.path(), folder.path() / "a" / "link");
  EXPECT_TRUE(remove_tree(folder.path() / "a"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_TRUE(remove_tree(folder.path() / "a")) << "nothing there, nothing to do";
}

}  // namespace
}  // namespace core::io
