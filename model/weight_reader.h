// The weights of a model where they are, read one at a time: what lets a model be run and converted
// that does not fit into memory.
#pragma once

#include <string>
#include <utility>

#include "model/weights.h"

namespace model {

class WeightReader {
 public:
  virtual ~WeightReader() = default;
  WeightReader(const WeightReader&) = delete;
  WeightReader& operator=(const WeightReader&) = delete;

  const ModelSpec& spec() const { return spec_; }
  // f32 or bf16: of what load() gives, known without it.
  virtual ag::DType dtype(const std::string& path) const = 0;
  // The whole tensor of a path of parameter_shapes(spec()), of the shape that stands there; anew
  // each time. Throws what reading a file throws.
  virtual ag::Tensor load(const std::string& path) = 0;

 protected:
  explicit WeightReader(ModelSpec spec) : spec_(std::move(spec)) {}

 private:
  ModelSpec spec_;
};

// Of a model in memory, with which it shares its tensors. Requires: check_weights() holds.
class MemoryReader : public WeightReader {
 public:
  explicit MemoryReader(Model model)
      : WeightReader(std::move(model.spec)), weights_(std::move(model.weights)) {}

  ag::DType dtype(const std::string& path) const override { return weights_.at(path).dtype(); }
  ag::Tensor load(const std::string& path) override { return weights_.at(path); }

 private:
  Weights weights_;
};

// The whole model in memory.
Model load_all(WeightReader& reader);

}  // namespace model
