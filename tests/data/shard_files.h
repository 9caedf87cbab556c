// Temporary folders with shards and texts in them, and the check of a refusal.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace data {

class ShardFiles : public ::testing::Test {
 protected:
  ShardFiles() {
    std::string name = (std::filesystem::temp_directory_path() / "mha2mla-data-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    folder_ = name;
  }
  ~ShardFiles() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path at(const std::string& name) const { return folder_ / name; }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::filesystem::create_directories(at(name).parent_path());
    std::ofstream(at(name), std::ios::binary) << bytes;
    return at(name);
  }

  template <class Word>
  std::filesystem::path write_words(const std::string& name, const std::vector<Word>& words) const {
    return write(name, {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word)});
  }

  // A shard of 2-byte ids first, first + 1, ...
  std::filesystem::path write_run(const std::string& name, int first, int count) const {
    std::vector<uint16_t> ids;
    for (int i = 0; i < count; ++i) ids.push_back(static_cast<uint16_t>(first + i));
    return write_words(name, ids);
  }

  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_))
      if (entry.is_regular_file()) all.push_back(entry.path().filename());
    return all;
  }

  std::filesystem::path folder_;
};

// `action` is refused with `code`, in one line that holds every one of `parts`.
inline void expect_refused(const std::function<void()>& action, core::ExitCode code,
                           const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "was not refused";
  } catch (const core::Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 1000u) << message;
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
  }
}

}  // namespace data
