// The safetensors files of one Hugging Face folder as a single set of named tensors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace model {

class HfShards {
 public:
  // Opens model.safetensors, or every file that model.safetensors.index.json names, after checking
  // that the index and the files agree. `notes` gets what is odd but harmless.
  HfShards(const std::filesystem::path& folder, std::vector<std::string>& notes);

  // Tensor name -> the file that holds it.
  const std::map<std::string, const SafetensorsFile*>& tensors() const { return tensors_; }

 private:
  void open_index(const std::filesystem::path& index, std::vector<std::string>& notes);

  std::map<std::string, SafetensorsFile> files_;  // by file name
  std::map<std::string, const SafetensorsFile*> tensors_;
};

}  // namespace model
