#include "trainer/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "trainer/files/leftovers.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

constexpr char kQuarantine[] = "quarantine";
constexpr std::string_view kStepPrefix = "step-";

std::string folder_name(int64_t step) { return fmt::format("{}{:09}", kStepPrefix, step); }

// The step of a folder name as folder_name() writes it.
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kStepPrefix.size(), end, step);
  if (error != std::errc() || stop != end || folder_name(step) != name) return std::nullopt;
  return step;
}

void write_latest(const fs::path& directory, const std::string& name) {
  try {
    core::write_file_atomically(directory / "LATEST", name + "\n");
  } catch (const core::Error&) {
    // The checkpoint is committed; LATEST is for people and scripts, and nothing here reads it.
  }
}

[[noreturn]] void fail_names(const fs::path& path, const std::string& name, bool in_checkpoint) {
  core::fail(ExitCode::kNoValidCheckpoint,
             {.path = path,
              .place = name,
              .field = "state",
              .expected = in_checkpoint ? "only what this run has" : "all that this run has",
              .found = in_checkpoint ? "an unknown entry" : "no such entry",
              .hint = "resume with the program version and configuration that wrote it"});
}

void require_same_names(const fs::path& path, const std::set<std::string>& wanted,
                        const std::set<std::string>& stored) {
  for (const std::string& name : stored)
    if (!wanted.contains(name)) fail_names(path, name, true);
  for (const std::string& name : wanted)
    if (!stored.contains(name)) fail_names(path, name, false);
}

std::set<std::string> keys_of(const nlohmann::json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

void require_compatible(const fs::path& path, const Manifest& manifest,
                        const std::vector<H5Source>& sources, const nlohmann::json& values) {
  std::set<std::string> wanted, stored;
  for (const H5Source& source : sources) wanted.insert(source.name);
  for (const auto& [name, entry] : manifest.tensors) stored.insert(name);
  require_same_names(path, wanted, stored);
  require_same_names(path, keys_of(values), keys_of(manifest.values));
  for (const H5Source& source : sources) {
    const TensorEntry& entry = manifest.tensors.at(source.name);
    const std::string expected =
        fmt::format("{} {}", name_of(source.type), to_string(source.shape));
    const std::string found = fmt::format("{} [{}]", entry.dtype, fmt::join(entry.shape, ", "));
    if (expected == found) continue;
    core::fail(ExitCode::kBadConfig,
               {.path = path,
                .place = source.name,
                .field = "tensor",
                .expected = expected,
                .found = found,
                .hint = "the checkpoint is of another configuration: use a new run name"});
  }
}

// One dataset at a time: the live state changes only by bytes whose hash was right.
void load_file(const fs::path& path, const std::string& file, const Manifest& manifest,
               StateRegistry& registry) {
  const H5Reader reader(path / file);
  for (const H5Dataset& dataset : reader.datasets()) {
    const TensorEntry& entry = manifest.tensors.at(dataset.name);
    const auto data = std::make_unique_for_overwrite<std::byte[]>(dataset.bytes());
    reader.read(dataset, data.get());
    const std::string hash = core::hash_hex({data.get(), dataset.bytes()});
    if (hash != entry.hash)
      core::fail(ExitCode::kBadData, {.path = path / file,
                                      .place = dataset.name,
                                      .field = "hash",
                                      .expected = entry.hash,
                                      .found = hash});
    if (!registry.is_constant(dataset.name)) registry.load_tensor(dataset.name, data.get());
  }
}

// Damage falls back to an older checkpoint; everything else is for the user to settle. What could
// not be read may be whole: to set it aside, or to save its step once more, would lose it.
bool is_damage(ExitCode code) {
  return code == ExitCode::kBadData || code == ExitCode::kMissingInput ||
         code == ExitCode::kNumerical;
}

[[noreturn]] void fail_unreadable(const core::Error& error) {
  throw core::Error(ExitCode::kIo, fmt::format("{}; nothing was moved: run the same command again, "
                                               "or give an older checkpoint with --resume PATH",
                                               error.what()));
}

std::string move_to_quarantine(const fs::path& path, const std::string& reason) {
  const fs::path folder = path.parent_path() / kQuarantine;
  core::create_directories(folder);
  fs::path target = folder / path.filename();
  if (fs::exists(target)) target = folder / with_nonce(path.filename());
  core::write_file_atomically(target.string() + ".reason.txt", reason + "\n");
  core::rename_durably(path, target);
  return target;
}

// The first of `found` that is valid. Those before it are dealt with as `invalid` says, and warned
// of; if there is none, nothing moves. `reasons`: why each was not.
std::optional<ValidCheckpoint> first_valid(const std::vector<CheckpointPath>& found,
                                           Invalid invalid, std::vector<std::string>& reasons) {
  std::vector<fs::path> bad;
  for (const auto& [step, path] : found) {
    try {
      ValidCheckpoint valid{step, path, verify_checkpoint(path, true), {}};
      for (size_t i = 0; i < bad.size(); ++i) {
        std::string warning =
            fmt::format("checkpoint {} is invalid: {}", bad[i].string(), reasons[i]);
        if (invalid == Invalid::quarantine)
          warning += "; moved to " + move_to_quarantine(bad[i], reasons[i]);
        valid.warnings.push_back(std::move(warning));
      }
      return valid;
    } catch (const core::Error& e) {
      if (e.code() == ExitCode::kIo) fail_unreadable(e);
      if (!is_damage(e.code())) throw;
      reasons.emplace_back(e.what());
      bad.push_back(path);
    }
  }
  return std::nullopt;
}

[[noreturn]] void fail_none_valid(const fs::path& directory,
                                  const std::vector<std::string>& reasons) {
  core::fail(ExitCode::kNoValidCheckpoint,
             {.path = directory,
              .field = "checkpoints",
              .expected = "a valid one",
              .found = fmt::format("none: {}", fmt::join(reasons, " | ")),
              .hint = "restore one from a copy, or start anew under another run name"});
}

// Makes the folder of the checkpoints, and nothing above: the run may go at any moment. One that is
// missing may say that another folder has taken the run's place since it was last looked at.
void make_checkpoints_folder(const fs::path& checkpoints, const CheckpointRequest& request) {
  if (fs::is_directory(checkpoints)) return;
  request.require_place();
  core::create_directory(checkpoints);
}

}  // namespace

SavedCheckpoint save_checkpoint(const fs::path& directory, const StateView& state,
                                const CheckpointRequest& request) {
  request.require_place();
  const std::string name = folder_name(request.step);
  FolderContents contents{.tag = std::to_string(request.step),
                          .prefix = "state",
                          .sources = state.sources,
                          .companions = request.companions,
                          .manifest = {.step = request.step,
                                       .config = request.config,
                                       .values = state.values,
                                       .tensors = {},
                                       .files = {},
                                       .provenance = basic_provenance()},
                          .bytes_per_file = request.bytes_per_file,
                          .scan = FiniteScan::yes,
                          .check = [&](const fs::path&, Manifest&) { request.require_place(); }};
  contents.manifest.provenance.update(request.provenance);
  try {
    make_checkpoints_folder(directory, request);
    const std::string hash = write_folder(directory / name, std::move(contents), IfExists::replace);
    write_latest(directory, name);
    return {directory / name, hash};
  } catch (const core::Error&) {
    request.require_place();  // if the folder is gone or another, that is the reason to give
    throw;
  }
}

Manifest verify_checkpoint(const fs::path& path, bool full) {
  Manifest manifest = verify_folder(path, full ? Depth::full : Depth::sizes);
  const std::optional<int64_t> step = step_of(path.filename());
  if (step && *step != manifest.step)
    core::fail(ExitCode::kBadData, {.path = path / kManifestName,
                                    .field = "step",
                                    .expected = std::to_string(*step),
                                    .found = std::to_string(manifest.step)});
  return manifest;
}

Manifest load_checkpoint(const fs::path& path, StateRegistry& registry) {
  Manifest manifest = verify_checkpoint(path, false);
  const std::vector<H5Source> sources = registry.sources();
  require_compatible(path, manifest, sources, registry.values());
  std::set<std::string> files;
  for (const H5Source& source : sources) {
    const TensorEntry& entry = manifest.tensors.at(source.name);
    files.insert(entry.file);
    if (registry.is_constant(source.name) &&
        entry.hash != core::hash_hex({static_cast<const std::byte*>(source.data), source.bytes()}))
      core::fail(
          ExitCode::kBadConfig,
          {.path = path,
           .place = source.name,
           .field = "state constant",
           .expected = "what this run was configured with",
           .found = "another value",
           .hint = "restore what it stands for (data/fingerprint: the training data), or use a "
                   "new run name"});
  }
  for (const std::string& file : files) load_file(path, file, manifest, registry);
  registry.load_values(manifest.values);
  return manifest;
}

fs::path checkpoint_path(const fs::path& directory, int64_t step) {
  return directory / folder_name(step);
}

std::vector<CheckpointPath> find_checkpoints(const fs::path& directory) {
  std::vector<CheckpointPath> found;
  if (!fs::is_directory(directory)) return found;
  for (const fs::path& path : core::list_directory(directory)) {
    const std::optional<int64_t> step = step_of(path.filename());
    if (step) found.push_back({*step, path});
  }
  std::sort(found.begin(), found.end(),
            [](const CheckpointPath& a, const CheckpointPath& b) { return a.step > b.step; });
  return found;
}

std::optional<ValidCheckpoint> newest_valid(const fs::path& directory, Invalid invalid) {
  std::vector<std::string> reasons;
  const std::vector<CheckpointPath> found = find_checkpoints(directory);
  auto valid = first_valid(found, invalid, reasons);
  if (valid) return valid;
  std::error_code error;
  const fs::path quarantine = directory / kQuarantine;
  if (found.empty() && fs::is_directory(quarantine, error) && !fs::is_empty(quarantine, error))
    reasons.push_back("all are in " + quarantine.string());
  if (!reasons.empty()) fail_none_valid(directory, reasons);
  return std::nullopt;
}

std::optional<ValidCheckpoint> newest_valid(const fs::path& directory, Invalid invalid,
                                            const std::function<bool(int64_t)>& wanted) {
  std::vector<std::string> reasons;
  std::vector<CheckpointPath> found = find_checkpoints(directory);
  std::erase_if(found, [&](const CheckpointPath& c) { return !wanted(c.step); });
  return first_valid(found, invalid, reasons);
}

std::vector<std::string> set_aside_newer(const fs::path& directory, int64_t step) {
  std::vector<std::string> lines;
  for (const auto& [newer, path] : find_checkpoints(directory)) {
    if (newer <= step) break;
    const std::string target =
        move_to_quarantine(path, fmt::format("the run was set back to step {}", step));
    lines.push_back(fmt::format("the run was set back to step {}: {} moved to {}", step,
                                path.string(), target));
  }
  return lines;
}

std::vector<std::string> remove_leftovers(const fs::path& directory) {
  std::vector<std::string> removed;
  if (!fs::is_directory(directory)) return removed;
  for (const fs::path& path : core::list_directory(directory)) {
    const std::string name = path.filename();
    if (is_abandoned_folder(name) || is_abandoned_file(name)) removed.push_back(name);
  }
  for (const std::string& name : removed) discard_folder(directory / name);
  std::sort(removed.begin(), removed.end());
  return removed;
}

}  // namespace trainer
