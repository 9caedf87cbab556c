#include "core/file.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/hash.h"
#include "tests/support/temporary_folder.h"

namespace core {
namespace {

ExitCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.code();
  }
  return ExitCode::kOk;
}

TEST(File, AppearsWholeOrNotAtAll) {
  const test_support::TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  write_file_atomically(path, "first");
  {
    AtomicFile abandoned(path);
    abandoned.write("second");
  }
  EXPECT_EQ(read_text(path), "first");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1)
      << "the temporary file is still there";
  write_file_atomically(path, "third");
  EXPECT_EQ(read_text(path), "third");
}

TEST(File, RefusalsNameTheReasonByExitCode) {
  const test_support::TemporaryFolder folder;
  write_file_atomically(folder.path() / "plain", "x");
  EXPECT_EQ(code_of([&] { read_text(folder.path() / "missing"); }), ExitCode::kMissingInput);
  EXPECT_EQ(code_of([&] { read_text(folder.path()); }), ExitCode::kMissingInput);
  EXPECT_EQ(code_of([&] { MappedFile file(folder.path() / "plain/below"); }),
            ExitCode::kMissingInput);
  EXPECT_EQ(code_of([&] { read_text(folder.path() / "plain", 0); }), ExitCode::kBadData);
  EXPECT_NE(code_of([&] { core::create_directories(folder.path() / "plain/below"); }),
            ExitCode::kOk);
}

TEST(File, AnEmptyFileMapsToNothing) {
  const test_support::TemporaryFolder folder;
  write_file_atomically(folder.path() / "empty", "");
  EXPECT_TRUE(MappedFile(folder.path() / "empty").bytes().empty());
}

TEST(Hash, PiecesAndWholeAgreeWithTheReference) {
  Hasher hasher;
  hasher.update("ab", 2);
  hasher.update("c", 1);
  EXPECT_EQ(hasher.hex(), hash_hex("abc"));
  EXPECT_EQ(hash_hex("abc"), "06b05ab6733a618578af5f94892f3950");  // xxhsum -H2 of "abc"
  EXPECT_NE(hash_hex("abd"), hash_hex("abc"));
}

}  // namespace
}  // namespace core
