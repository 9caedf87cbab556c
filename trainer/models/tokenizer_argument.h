// The TOKENIZER argument: a folder with tokenizer.json, that file itself, or a .gguf file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "trainer/files/companion.h"
#include "trainer/models/model_folder.h"

namespace trainer {

struct OpenedTokenizer {
  data::Tokenizer tokenizer;
  std::string name;                 // of its folder or .gguf file: what a shard records
  std::vector<Companion> settings;  // tokenizer_config.json, config.json: those that exist
};

// Throws as Tokenizer::load and model::read_gguf_tokenizer do.
OpenedTokenizer open_tokenizer(const std::filesystem::path& path);

// The tokenizer among the companions of a model; kMissingInput without one.
data::Tokenizer tokenizer_of(const LoadedModel& model);

}  // namespace trainer
