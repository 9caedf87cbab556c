#include "trainer/files/staging.h"

#include <fmt/format.h>

#include <cerrno>
#include <random>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/io.h"

namespace trainer {

using core::ExitCode;
namespace fs = std::filesystem;

Staging::Staging(const fs::path& target, const std::string& tag)
    : target_(target), path_(core::folder_of(target) / with_nonce(".tmp-" + tag)) {
  core::create_directory(path_);
}

Staging::~Staging() { discard_folder(path_); }

void Staging::commit(IfExists if_exists) {
  core::sync_directory(path_);
  core::failpoint("checkpoint.before_rename");
  if (core::io::rename_to_new(path_, target_) != 0) {
    if (errno == EINVAL || errno == ENOSYS)
      rename_plainly(if_exists);  // a file system without the flags
    else if (errno != EEXIST)
      core::fail_errno("rename", target_, errno);
    else if (if_exists == IfExists::refuse)
      refuse_existing_folder(target_);
    else if (core::io::exchange(path_, target_) != 0)
      core::fail_errno("exchange", target_, errno);
  }
  core::failpoint("checkpoint.after_rename");
  core::sync_directory(core::folder_of(target_));
}

void Staging::rename_plainly(IfExists if_exists) {
  const fs::path old = path_.string() + ".old";
  const bool exists = fs::exists(target_);
  if (exists && if_exists == IfExists::refuse) refuse_existing_folder(target_);
  if (exists && core::io::rename(target_, old) != 0) core::fail_errno("rename", target_, errno);
  if (core::io::rename(path_, target_) != 0) {
    const int error = errno;
    if (exists) core::io::rename(old, target_);
    core::fail_errno("rename", target_, error);
  }
  if (exists) discard_folder(old);
}

void refuse_existing_folder(const fs::path& target) {
  core::fail(ExitCode::kRunLocked, {.path = target,
                                    .field = "folder",
                                    .expected = "a new name",
                                    .found = "one that exists",
                                    .hint = "remove it or choose another name"});
}

fs::path existing_ancestor(fs::path path) {
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = core::folder_of(path);
  return path;
}

void require_free_space(const fs::path& target, uint64_t needed) {
  const uint64_t wanted = needed + needed / 5;
  const uint64_t available = core::free_disk_bytes(existing_ancestor(core::folder_of(target)));
  if (available >= wanted) return;
  core::fail(ExitCode::kIo, {.path = target,
                             .field = "disk space",
                             .expected = fmt::format("{} bytes", wanted),
                             .found = fmt::format("{} free", available),
                             .hint = "free disk space and run the same command again"});
}

std::string with_nonce(const std::string& name) {
  std::random_device random;
  return fmt::format("{}-{:08x}{:08x}", name, random(), random());
}

void discard_folder(const fs::path& folder) noexcept {
  try {
    for (const fs::path& file : core::list_directory(folder))
      if (file.extension() == ".h5") core::truncate_to_nothing(file);
  } catch (const std::exception&) {
    // Not there, or not to be listed: what can be removed still is.
  }
  if (!core::remove_tree(folder)) core::remove_tree(folder);  // a failure that passes costs nothing
}

}  // namespace trainer
