// XXH3-128, the program's only content hash: tensors, files, shards, tokenizers, configurations.
// And the hash of tables in memory, which is another one in every process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace core {

// 32 lower-case hexadecimal digits, most significant first.
std::string hash_hex(std::span<const std::byte> bytes);
std::string hash_hex(const std::string& text);
std::string hash_file_hex(const std::filesystem::path& path);

// For tables in memory whose keys come from files: seeded at random in every process, so that no
// file can hold keys that collide. Never stored, and no result may depend on it.
uint64_t table_hash(std::string_view key);
uint64_t table_seed();  // for hashes of numbers

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
