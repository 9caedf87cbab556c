// A small file that goes along with a model: config.json, tokenizer.json, ... It lies on the disk,
// or was made from the metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace trainer {

class Companion {
 public:
  // Why implicit: to most callers a companion is a file.
  Companion(std::filesystem::path file) : name_(file.filename()), file_(std::move(file)) {}
  Companion(std::string name, std::string text) : name_(std::move(name)), text_(std::move(text)) {}

  const std::string& name() const { return name_; }
  // What errors call it: its path, or its name.
  std::string shown() const { return on_disk() ? file_.string() : name_; }
  // These throw as reading a file does.
  uint64_t bytes() const;
  std::string text() const;
  std::string hash() const;  // core::hash_file_hex
  // The same, and independent of what becomes of the file.
  Companion in_memory() const { return {name_, text()}; }
  void copy_into(const std::filesystem::path& folder) const;

 private:
  bool on_disk() const { return !file_.empty(); }

  std::string name_;
  std::filesystem::path file_;  // empty: `text_` is the content
  std::string text_;
};

// The companion of that name; null when there is none.
const Companion* find_companion(const std::vector<Companion>& companions, std::string_view name);

}  // namespace trainer
