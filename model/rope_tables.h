// Cosines and sines of a model, made once for many passes.
#pragma once

#include <cstdint>

#include "autograd/ops.h"
#include "model/config.h"

namespace model {

class RopeTables {
 public:
  RopeTables(const LlamaConfig& config, ag::DType wide);
  // At least `positions` rows. `text_length` is that of inverse_frequencies(). Valid until the next
  // call.
  const ag::RopeTable& at(int64_t positions, int64_t text_length);

 private:
  RopeParameters rope_;
  int64_t head_dim_;
  ag::DType wide_;
  ag::RopeTable table_;
  int64_t length_ = 0;  // the text's, for which dynamic rope made it
};

}  // namespace model
