// The numbers of a model: a tensor for each path of parameter_shapes().
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/core/tensor.h"
#include "model/config.h"

namespace model {

// Floating tensors, f32 or bf16 as they were stored (f16 sources are widened to f32, exactly).
using Weights = std::map<std::string, ag::Tensor>;

struct Model {
  ModelSpec spec;
  Weights weights;
};

// The elements in float64, row by row.
std::vector<double> to_double(const ag::Tensor& tensor);

// Throws kBadData naming `origin` (a file or folder) when a path is missing, superfluous, or has
// another shape than the spec wants, or when the spec has a latent in a model with QK-norm.
void check_shapes(const ModelSpec& spec, const std::map<std::string, ag::Shape>& shapes,
                  const std::string& origin);
void check_weights(const ModelSpec& spec, const Weights& weights, const std::string& origin);

}  // namespace model
