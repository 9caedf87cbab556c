#include "trainer/checkpoint/folder.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "core/failpoint.h"
#include "core/file.h"
#include "core/hash.h"
#include "trainer/files/staging.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

uint64_t bytes_needed(const FolderContents& contents) {
  constexpr uint64_t kManifestAndHeaders = 1 << 16;
  uint64_t bytes = kManifestAndHeaders;
  for (const H5Source& source : contents.sources) bytes += source.bytes();
  for (const Companion& companion : contents.companions) bytes += companion.bytes();
  return bytes;
}

void fill(const fs::path& folder, FolderContents& contents) {
  Manifest& manifest = contents.manifest;
  manifest.tensors = write_h5_set(folder, contents.prefix, contents.sources,
                                  contents.bytes_per_file, contents.scan);
  for (const Companion& companion : contents.companions) companion.copy_into(folder);
  if (contents.check) contents.check(folder, manifest);
  for (const fs::path& file : core::list_directory(folder))
    manifest.files[file.filename()] = {fs::file_size(file), core::hash_file_hex(file)};
  core::failpoint("checkpoint.before_manifest");
  core::write_file_atomically(folder / kManifestName, format_manifest(manifest));
  core::failpoint("checkpoint.after_manifest");
}

}  // namespace

std::string write_folder(const fs::path& path, FolderContents contents, IfExists if_exists) {
  const fs::path target = path.has_filename() ? path : path.parent_path();  // "out/" is "out"
  if (if_exists == IfExists::refuse) core::create_directories(core::folder_of(target));
  if (if_exists == IfExists::refuse && fs::exists(fs::symlink_status(target)))
    refuse_existing_folder(target);
  const uint64_t needed = bytes_needed(contents);
  require_free_space(target, needed);
  try {
    Staging staging(target, contents.tag);
    core::failpoint("checkpoint.before_write");
    fill(staging.path(), contents);
    const std::string hash = manifest_hash(staging.path());
    staging.commit(if_exists);
    return hash;
  } catch (const core::Error& e) {
    if (e.code() != ExitCode::kIo && e.code() != ExitCode::kBadData) throw;
    // kBadData: what came back from the disk is not what was written, which is the disk's fault.
    std::error_code unknown;  // not to hide the error by another one
    const uint64_t available = fs::space(core::folder_of(target), unknown).available;
    throw core::Error(
        ExitCode::kIo,
        fmt::format("{} (writing {} needs {} bytes, {} are free)", e.what(), target.string(),
                    needed, unknown ? "an unknown number" : std::to_string(available)));
  }
}

Manifest verify_folder(const fs::path& folder, Depth depth) {
  Manifest manifest = read_manifest(folder);
  for (const auto& [name, file] : manifest.files) {
    std::error_code error;
    const fs::file_status status = fs::status(folder / name, error);
    if (fs::exists(status) && !fs::is_regular_file(status))
      core::fail(ExitCode::kBadData, {.path = folder / name,
                                      .field = "file",
                                      .expected = "a regular file",
                                      .found = "something else"});
    const uint64_t bytes = fs::file_size(folder / name, error);
    if (error) core::fail_errno("stat", folder / name, error.value());
    if (bytes != file.bytes)
      core::fail(ExitCode::kBadData, {.path = folder / name,
                                      .field = "size",
                                      .expected = fmt::format("{} bytes", file.bytes),
                                      .found = fmt::format("{}", bytes)});
  }
  for (const fs::path& file : core::list_directory(folder))
    if (file.extension() == ".h5" && !manifest.files.contains(file.filename()))
      core::fail(ExitCode::kBadData, {.path = file,
                                      .field = "file",
                                      .expected = "only those of the manifest",
                                      .found = "an unknown one"});
  if (depth == Depth::sizes) return manifest;
  for (const auto& [name, file] : manifest.files) {
    const std::string hash = core::hash_file_hex(folder / name);
    if (hash != file.hash)
      core::fail(ExitCode::kBadData,
                 {.path = folder / name, .field = "hash", .expected = file.hash, .found = hash});
  }
  check_h5_set(folder, manifest.tensors, FiniteScan::yes);
  return manifest;
}

}  // namespace trainer
