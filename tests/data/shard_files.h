// Temporary folders with shards and texts in them.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace data {

class ShardFiles : public ::testing::Test {
 protected:
  std::filesystem::path at(const std::string& name) const { return temporary_ / name; }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    return temporary_.write(name, bytes);
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

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_))
      if (entry.is_regular_file()) all.push_back(entry.path().filename());
    return all;
  }

  test_support::TemporaryFolder temporary_;
  const std::filesystem::path& folder_ = temporary_.path();
};

}  // namespace data
