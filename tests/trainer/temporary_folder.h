// A folder for one test, removed afterwards, and small helpers on files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"

namespace trainer_test {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& parent = fs::temp_directory_path()) {
    std::string name = (parent / "mha2mla-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// A parent for tests that sync thousands of times: in memory, where the system has such a place.
inline fs::path fast_folder() {
  const char* const memory = "/dev/shm";
  return ::access(memory, W_OK) == 0 ? fs::path(memory) : fs::temp_directory_path();
}

inline std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void spill(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// The code and text of the error that `f` throws; kOk when it throws none.
struct Caught {
  core::ExitCode code = core::ExitCode::kOk;
  std::string text;
};
template <class F>
Caught caught(F&& f) {
  try {
    f();
  } catch (const core::Error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

}  // namespace trainer_test

#define EXPECT_FAILS(expected_code, part, ...)                                                 \
  do {                                                                                         \
    const ::trainer_test::Caught error = ::trainer_test::caught([&] { __VA_ARGS__; });         \
    EXPECT_EQ(static_cast<int>(error.code), static_cast<int>(::core::ExitCode::expected_code)) \
        << error.text;                                                                         \
    EXPECT_NE(error.text.find(part), std::string::npos) << error.text;                         \
    EXPECT_EQ(error.text.find('\n'), std::string::npos) << error.text;                         \
  } while (false)
