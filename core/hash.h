// XXH3-128, the program's only content hash: tensors, files, shards, tokenizers, configurations.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace core {

// 32 lower-case hexadecimal digits, most significant first.
std::string hash_hex(std::span<const std::byte> bytes);
std::string hash_hex(const std::string& text);
std::string hash_file_hex(const std::filesystem::path& path);

class Hasher {
 public:
  Hasher();
  ~Hasher();
  void update(const void* data, size_t size);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace core
