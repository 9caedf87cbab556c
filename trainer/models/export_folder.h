// Writes a Hugging Face folder: config.json and its like, model.safetensors or
// model-00001-of-0000N.safetensors with their index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "model/hf_export.h"
#include "trainer/files/companion.h"

namespace trainer {

// Writes into a temporary folder beside `path`, calls check(temporary folder), and renames: what
// `check` throws on never appears. Tensors are dealt to files of at most `max_shard_bytes` in
// ascending order of names; one that is larger gets a file of its own. `companions` are copied but
// for config.json. Throws kRunLocked when `path` exists, kIo, kPermission.
void write_hf_folder(const std::filesystem::path& path, const model::HfFolder& folder,
                     const std::vector<Companion>& companions, uint64_t max_shard_bytes,
                     const std::function<void(const std::filesystem::path&)>& check);

}  // namespace trainer
