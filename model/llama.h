// embedding -> blocks of (norm, attention, norm, SwiGLU) -> norm -> logits or loss. The same code
// runs the source model and the converted one; ModelSpec tells them apart layer by layer.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/rope_tables.h"
#include "model/weights.h"

namespace model {

enum class Recompute { none, attention, block };
enum class Trainable { all, attention };  // attention: parameters of attention and of the norms

bool is_trainable(const std::string& path, Trainable trainable);

struct LlamaOptions {
  ag::DType compute = ag::DType::f32;
  Trainable trainable = Trainable::all;
  Recompute recompute = Recompute::none;
  ag::Share share = {};  // of the optimizer's work: ag::ParamStore
};

class Llama {
 public:
  // Parameters take the values of `model.weights` (check_weights holds). Keeps no reference to
  // them.
  Llama(const Model& model, const LlamaOptions& options);

  const ModelSpec& spec() const { return spec_; }
  ag::ParamStore& params() { return params_; }
  const ag::ParamStore& params() const { return params_; }

  // ids [B*T] i32 -> final norm's output [B*T, d]. With a cache (B = 1) the ids follow what it
  // holds.
  ag::Value hidden(ag::Tape& tape, const ag::Tensor& ids, int64_t batch, Cache* cache = nullptr,
                   const QueryKeyObserver& observe = {});

  // Sum over all rows of the loss of targets [B*T] i32; f64 [1]. Requires, on a recording tape,
  // what linear_cross_entropy does: options.gradient_scale is what the tape will be run backwards
  // with.
  ag::Value loss(ag::Tape& tape, const ag::Tensor& ids, const ag::Tensor& targets, int64_t batch,
                 const ag::LossOptions& options = {});

  // [B*T, V] wide, without recording.
  ag::Tensor logits(const ag::Tensor& ids, int64_t batch, Cache* cache = nullptr);

  // The current masters, by path. Requires: params() has them all.
  Weights weights() const;

 private:
  ag::Value forward(const Block& block, const ag::Value& x, const Position& at, LayerCache* cache,
                    const QueryKeyObserver& observe) const;
  // `unread`: ids of each text that follow its rows.
  ag::Value hidden_before(int64_t unread, ag::Tape& tape, const ag::Tensor& ids, int64_t batch,
                          Cache* cache, const QueryKeyObserver& observe);

  ModelSpec spec_;
  LlamaOptions options_;
  ag::ParamStore params_;
  std::vector<Block> blocks_;
  ag::Param *embed_, *norm_, *head_;
  RopeTables rope_;
};

}  // namespace model
