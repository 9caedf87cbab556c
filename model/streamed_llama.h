// The forward of llama.h with one layer in memory at a time: all texts go through a layer before
// the next one is read. Nothing is recorded; the bits are those of Llama for the same batches.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/block.h"
#include "model/weight_reader.h"

namespace model {

// Texts of one length.
struct TextBatch {
  ag::Tensor ids;  // [B*T] i32
  int64_t batch = 1;
};

// Called when a layer is done.
using LayerDone = std::function<void(int64_t layer)>;

// The final norm's output [B*T, d] of each batch. What is held: that of all batches, one layer's
// weights, and the activations of one batch in it; before and after, the embedding and the norm.
std::vector<ag::Tensor> streamed_hidden(WeightReader& weights, ag::DType compute,
                                        const std::vector<TextBatch>& texts,
                                        const QueryKeyObserver& observe, const LayerDone& done);

// The output matrix alone.
class Head {
 public:
  Head(WeightReader& weights, ag::DType compute);

  // hidden [N, d] -> [N, V] wide.
  ag::Tensor logits(const ag::Tensor& hidden) { return ag::wide_logits(hidden, *weight_); }
  // hidden [N, d], targets [N] i32 -> the loss of each row, nats.
  std::vector<double> losses(const ag::Tensor& hidden, const ag::Tensor& targets);

 private:
  ag::ParamStore params_;
  ag::Param* weight_;
};

}  // namespace model
