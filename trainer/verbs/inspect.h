// What `mha2mla inspect` says of each kind of file and folder. `verify`: everything is read, and
// compared with the hashes that were recorded.
#pragma once

#include <filesystem>

#include "trainer/verbs/report.h"

namespace trainer {

Report inspect_model(const std::filesystem::path& path, bool verify);  // any MODEL, runs included
Report inspect_shards(const std::filesystem::path& path, bool verify);
Report inspect_safetensors(const std::filesystem::path& path, bool verify);
Report inspect_gguf(const std::filesystem::path& path, bool verify);
Report inspect_h5(const std::filesystem::path& path, bool verify);
Report inspect_tokenizer(const std::filesystem::path& path);

}  // namespace trainer
