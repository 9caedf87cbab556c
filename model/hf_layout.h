// What a Hugging Face folder stores of a model, and under which names: each stored tensor is some
// of the rows of one parameter. One table serves both ways, export gathers rows, import puts them
// back.
//   plain  unconverted: the names of transformers
//   v1     the first public MHA2MLA code: W_k_r, W_down_k, W_down_v, W_up_k, W_up_v
//   v2     its later code: k_r_proj, kv_proj.{down_kv, down_k, down_v, up_k, up_v}; rows of q in
//   the
//          order [rotary of all heads, the rest of all heads]
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "autograd/core/tensor.h"
#include "model/config.h"
#include "model/weights.h"

namespace model {

enum class HfLayout { plain, v1, v2 };

struct HfTensor {
  std::string name;
  std::string path;           // of the parameter
  ag::Shape shape;            // as stored
  std::vector<int64_t> rows;  // of the parameter, in stored order; empty: all, in order
};

// Requires: the layout can express the spec (hf_mla_config.h); for plain, that it is unconverted.
std::vector<HfTensor> hf_tensors(const ModelSpec& spec, HfLayout layout);

// The stored tensors of a model; whole parameters share their memory with it.
std::map<std::string, ag::Tensor> to_hf(const Model& model, HfLayout layout);

// The way back: every parameter from its parts. Throws kBadData naming `origin` and the tensor when
// parts of one parameter are of different types. Requires: the names and shapes are those of
// hf_tensors().
Weights from_hf(const ModelSpec& spec, HfLayout layout,
                const std::map<std::string, ag::Tensor>& stored, const std::string& origin);

}  // namespace model
