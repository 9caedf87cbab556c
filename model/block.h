// One layer: x + attention(norm(x)), then h + SwiGLU(norm(h)).
#pragma once

#include <cstdint>

#include "model/attention.h"

namespace model {

class Block {
 public:
  // `params` holds the paths of this layer that parameter_shapes() names. Keeps references: config,
  // spec and params outlive it.
  Block(const LlamaConfig& config, const AttentionSpec& spec, int64_t layer,
        ag::ParamStore& params);

  // x [N, d] wide -> [N, d] wide, each half and both.
  ag::Value attention_half(const ag::Value& x, const Position& at, LayerCache* cache,
                           const QueryKeyObserver& observe) const;
  ag::Value mlp_half(const ag::Value& h) const;
  ag::Value forward(const ag::Value& x, const Position& at, LayerCache* cache,
                    const QueryKeyObserver& observe) const {
    return mlp_half(attention_half(x, at, cache, observe));
  }

 private:
  double eps_;
  ag::DType compute_;
  Attention attention_;
  ag::Param *attn_norm_, *mlp_norm_;
  ag::Param *gate_, *up_, *down_;
  ag::Param *gate_bias_, *up_bias_, *down_bias_;
};

}  // namespace model
