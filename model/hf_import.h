// A Hugging Face folder (config.json, model.safetensors or its shards) -> Model: a source model, or
// one that the public MHA2MLA code or mha2mla export wrote (hf_mla_config.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/weight_reader.h"

namespace model {

// The model as it is stored: bf16 and f32 weights keep their type, f16 is widened to f32. Without
// model.safetensors the shards of model.safetensors.index.json are read. With tied embeddings the
// stored lm_head, if any, must equal the embedding and is dropped. What is odd but harmless
// (unknown configuration keys, unlisted shards or tensors, a wrong total_size) is appended to
// `notes`, one line each.
// Throws kMissingInput for files that are not there, kBadData for everything else: names the file,
// the tensor, what its config.json asks for and what was found.
//
// Opening checks all but the values, which loading does. A source model is read one tensor at a
// time; one that the public code wrote, whose rows are in another order, is loaded when it is
// opened.
std::unique_ptr<WeightReader> open_hf(const std::filesystem::path& folder,
                                      std::vector<std::string>* notes = nullptr);
// All of it.
Model import_hf(const std::filesystem::path& folder, std::vector<std::string>* notes = nullptr);

// The files of a source folder that go along with its model, those that exist of: config.json,
// tokenizer.json, tokenizer_config.json, generation_config.json, special_tokens_map.json.
std::vector<std::string> companion_files(const std::filesystem::path& folder);

// Ids at which generation stops: those of config.json, then the others of generation_config.json.
std::vector<int64_t> read_generation_eos(const std::filesystem::path& folder);

}  // namespace model
