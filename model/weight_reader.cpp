#include "model/weight_reader.h"

namespace model {

Model load_all(WeightReader& reader) {
  Model model{.spec = reader.spec(), .weights = {}};
  for (const ParameterShape& p : parameter_shapes(model.spec))
    model.weights.emplace(p.path, reader.load(p.path));
  return model;
}

}  // namespace model
