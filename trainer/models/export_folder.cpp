#include "trainer/models/export_folder.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/file.h"
#include "model/safetensors.h"
#include "trainer/files/staging.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, ag::Tensor>;

// transformers refuses files that do not say so.
const std::map<std::string, std::string> kMetadata = {{"format", "pt"}};

uint64_t tensor_bytes(const Tensors& tensors) {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<uint64_t>(tensor.bytes());
  return bytes;
}

std::vector<Tensors> deal(const Tensors& tensors, uint64_t max_shard_bytes) {
  std::vector<Tensors> shards(1);
  uint64_t used = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto size = static_cast<uint64_t>(tensor.bytes());
    if (!shards.back().empty() && used + size > max_shard_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().emplace(name, tensor);
    used += size;
  }
  return shards;
}

void write_weights(const fs::path& folder, const Tensors& tensors, uint64_t max_shard_bytes) {
  const std::vector<Tensors> shards = deal(tensors, max_shard_bytes);
  if (shards.size() == 1) {
    model::write_safetensors(folder / "model.safetensors", tensors, kMetadata);
    return;
  }
  nlohmann::json index = {{"metadata", {{"total_size", tensor_bytes(tensors)}}},
                          {"weight_map", nlohmann::json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    model::write_safetensors(folder / name, shards[i], kMetadata);
    for (const auto& [tensor, value] : shards[i]) index["weight_map"][tensor] = name;
  }
  core::write_file_atomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

void write_hf_folder(const fs::path& path, const model::HfFolder& folder,
                     const std::vector<Companion>& companions, uint64_t max_shard_bytes,
                     const std::function<void(const fs::path&)>& check) {
  const fs::path target = path.has_filename() ? path : path.parent_path();  // "out/" is "out"
  core::create_directories(core::folder_of(target));
  if (fs::exists(fs::symlink_status(target))) refuse_existing_folder(target);
  uint64_t needed = tensor_bytes(folder.tensors);
  for (const auto& [name, bytes] : folder.files) needed += bytes.size();
  require_free_space(target, needed);
  Staging staging(target, "export");
  write_weights(staging.path(), folder.tensors, max_shard_bytes);
  for (const auto& [name, bytes] : folder.files)
    core::write_file_atomically(staging.path() / name, bytes);
  for (const Companion& companion : companions)
    if (!folder.files.contains(companion.name())) companion.copy_into(staging.path());
  check(staging.path());
  staging.commit(IfExists::refuse);
}

}  // namespace trainer
