// A folder that appears whole or not at all: .tmp-TAG-NONCE/ beside it is filled, synced and
// renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace trainer {

enum class IfExists {
  refuse,   // kRunLocked
  replace,  // exchanged in one step, then removed
};

// The temporary folder; removed unless committed.
class Staging {
 public:
  // Requires: the folder above `target` exists.
  Staging(const std::filesystem::path& target, const std::string& tag);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();

  const std::filesystem::path& path() const { return path_; }

  // Durable when it returns. After an exchange path() is the old folder, which the destructor
  // removes.
  void commit(IfExists if_exists);

 private:
  void rename_plainly(IfExists if_exists);

  std::filesystem::path target_, path_;
};

// kRunLocked: `target` is there.
[[noreturn]] void refuse_existing_folder(const std::filesystem::path& target);

// The path itself, or the nearest above it that exists: where the first file would be made.
std::filesystem::path existing_ancestor(std::filesystem::path path);

// Throws kIo naming `target` unless 1.2 times `needed` bytes are free where it shall be.
void require_free_space(const std::filesystem::path& target, uint64_t needed);

// "NAME-0123456789abcdef": no two are the same.
std::string with_nonce(const std::string& name);

// rm -r that frees the disk space even of files that a failed HDF5 close holds open. Never throws.
void discard_folder(const std::filesystem::path& folder) noexcept;

}  // namespace trainer
