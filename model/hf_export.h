// Model -> the contents of a Hugging Face folder: tensors under the names of a layout and the
// config.json that goes with them. Writing them is trainer/models/export_folder.h.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "autograd/core/tensor.h"
#include "model/hf_layout.h"
#include "model/weights.h"

namespace model {

// File beside config.json that defines the model for transformers (trust_remote_code).
inline constexpr char kModelingFile[] = "modeling_mha2mla.py";

struct HfFolder {
  std::map<std::string, ag::Tensor> tensors;  // whole parameters share their memory with the model
  std::map<std::string, std::string> files;   // name -> bytes: config.json, ...
};

// `source_config` is the text of the config.json that came with the model, `origin` the folder of
// it, for errors. What of it describes the source stays; both spellings of RoPE and of the type are
// written.
// Mistral goes out as Llama in the layouts v1 and v2, whose code does not know it: without a
// sliding window they are the same.
// Throws kBadConfig for what the layout cannot express: for plain, a converted model.
HfFolder hf_folder(const Model& model, HfLayout layout, const std::string& source_config,
                   const std::string& origin);

// A copy with every weight of `dtype`; without one the model itself.
Model with_dtype(const Model& model, std::optional<ag::DType> dtype);

}  // namespace model
