#include "model/hf_shards.h"

#include <fmt/format.h>

#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "model/hf_json.h"

namespace model {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;
constexpr size_t kMaxTensors = 65'536;

// A dangling link is there too: opening it says what is wrong.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\:\0", 4)) == std::string_view::npos;
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
  const nlohmann::json document = core::read_json(path, kMaxIndexBytes);
  JsonObject top(path, "", document);
  const nlohmann::json* listed = top.find("weight_map");
  if (listed == nullptr) top.fail("weight_map", "an object", "nothing");
  const JsonObject weight_map(path, "weight_map", *listed);
  if (listed->size() > kMaxTensors)
    top.fail("weight_map", fmt::format("at most {} tensors", kMaxTensors),
             std::to_string(listed->size()));
  for (const auto& [tensor, file] : listed->items()) {
    if (!file.is_string()) weight_map.fail(tensor, "a file name", shown(file));
    const std::string name = file.get<std::string>();
    if (!is_plain_name(name))
      weight_map.fail(tensor, "the plain name of a file in the same folder", shown(file));
    auto it = files_.find(name);
    if (it == files_.end())
      it = files_.emplace(name, SafetensorsFile(index.parent_path() / name)).first;
    if (!it->second.contains(tensor)) weight_map.fail(tensor, "in " + name, "no such tensor there");
    tensors_[tensor] = &it->second;
  }
  uint64_t bytes = 0;
  std::map<std::string, std::string> holder;
  for (const auto& [file_name, file] : files_) {
    for (const auto& [tensor, stored] : file.tensors()) {
      bytes += stored.end - stored.begin;
      const auto [it, is_new] = holder.emplace(tensor, file_name);
      if (!is_new) weight_map.fail(tensor, "in one file only", it->second + " and " + file_name);
      if (!tensors_.contains(tensor))
        notes.push_back(
            fmt::format("{}: {} of {} is not listed and left out", path, tensor, file_name));
    }
  }
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(index.parent_path(), error))
    if (entry.path().extension() == ".safetensors" &&
        !files_.contains(entry.path().filename().string()))
      notes.push_back(fmt::format("{}: no tensor is listed in {}, which is left out", path,
                                  entry.path().filename().string()));
  if (const nlohmann::json* metadata = top.find("metadata")) {
    JsonObject object(path, "metadata", *metadata);
    const nlohmann::json* total = object.find("total_size");
    if (total != nullptr && *total != bytes)
      notes.push_back(fmt::format("{}: total_size is {}, the tensors have {} bytes", path,
                                  shown(*total), bytes));
  }
}

}  // namespace model
