#include "model/hf_shards.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/file.h"
#include "model/hf_index.h"
#include "model/hf_json.h"
#include "model/hf_names.h"

namespace model {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;

// A dangling link is there too: opening it says what is wrong.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

}  // namespace

HfShards::HfShards(const fs::path& folder, std::vector<std::string>& notes) {
  const fs::path single = folder / "model.safetensors";
  const fs::path index = folder / "model.safetensors.index.json";
  if (is_there(single)) {
    const auto& file = files_.emplace("model.safetensors", SafetensorsFile(single)).first->second;
    for (const auto& [name, tensor] : file.tensors()) tensors_[name] = &file;
    return;
  }
  if (is_there(index)) {
    open_index(index, notes);
    return;
  }
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (is_there(folder / pickle))
      core::fail(ExitCode::kBadData,
                 {.path = folder.string(),
                  .field = "weights",
                  .expected = "model.safetensors",
                  .found = std::string("only ") + pickle,
                  .hint = "pickle files can run code and are not read; save the model with "
                          "safe_serialization"});
  core::fail(ExitCode::kMissingInput,
             {.path = folder.string(),
              .field = "weights",
              .expected = "model.safetensors or model.safetensors.index.json",
              .found = "neither"});
}

void HfShards::open_index(const fs::path& index, std::vector<std::string>& notes) {
  const std::string path = index.string();
  const HfIndex parsed = parse_hf_index(path, core::read_text(index, kMaxIndexBytes));
  const auto refuse = [&](const std::string& tensor, const std::string& expected,
                          const std::string& found) {
    core::fail(
        ExitCode::kBadData,
        {.path = path, .field = "weight_map." + tensor, .expected = expected, .found = found});
  };
  for (const auto& [tensor, name] : parsed.weight_map) {
    auto it = files_.find(name);
    if (it == files_.end())
      it = files_.emplace(name, SafetensorsFile(index.parent_path() / name)).first;
    if (!it->second.contains(tensor)) refuse(tensor, "in " + name, "no such tensor there");
    tensors_[tensor] = &it->second;
  }
  uint64_t bytes = 0;
  std::vector<std::string> unlisted;
  std::map<std::string, std::string> holder;
  for (const auto& [file_name, file] : files_) {
    for (const auto& [tensor, stored] : file.tensors()) {
      bytes += stored.end - stored.begin;
      const auto [it, is_new] = holder.emplace(tensor, file_name);
      if (!is_new) refuse(tensor, "in one file only", it->second + " and " + file_name);
      if (!tensors_.contains(tensor)) unlisted.push_back(tensor + " of " + file_name);
    }
  }
  if (!unlisted.empty())
    notes.push_back(
        fmt::format("{}: tensors are not listed and left out: {}", path, shown_names(unlisted)));
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(index.parent_path(), error))
    if (entry.path().extension() == ".safetensors" &&
        !files_.contains(entry.path().filename().string()))
      notes.push_back(fmt::format("{}: no tensor is listed in {}, which is left out", path,
                                  entry.path().filename().string()));
  if (!parsed.total_size.is_null() && parsed.total_size != bytes)
    notes.push_back(fmt::format("{}: total_size is {}, the tensors have {} bytes", path,
                                shown(parsed.total_size), bytes));
}

}  // namespace model
