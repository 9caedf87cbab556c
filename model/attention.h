// The attention of one layer, as it comes from the source and as it is after conversion.
#pragma once

#include <functional>
#include <string>

#include "autograd/ops.h"
#include "model/cache.h"
#include "model/config.h"

namespace model {

// Where in the sequences the rows of x are, and the angles there.
struct Position {
  int64_t batch = 1;           // B sequences
  int64_t tokens = 0;          // T rows of each
  int64_t first_position = 0;  // of row 0; above 0 only with a cache
  ag::RopeTable table;
};

// Sees q [N, H*D] and k [N, G*D] of a layer before RoPE (dense layers only): calibration.
using QueryKeyObserver =
    std::function<void(int64_t layer, const ag::Tensor& q, const ag::Tensor& k)>;

class Attention {
 public:
  // Keeps references to all but `layer`: they outlive it. `params` holds the paths of this layer
  // that parameter_shapes() names.
  Attention(const LlamaConfig& config, const AttentionSpec& spec, int64_t layer,
            ag::ParamStore& params);

  // x [N, d] T, residual [N, d] wide -> residual + o(attention(x)) [N, d] wide.
  ag::Value forward(const ag::Value& x, const ag::Value& residual, const Position& at,
                    LayerCache* cache, const QueryKeyObserver& observe) const;

 private:
  struct Projection {
    ag::Param* weight = nullptr;  // null: the projection has no rows
    ag::Param* bias = nullptr;
  };
  struct KeyValue {
    ag::Value k_rope, k_nope, v;
  };

  Projection projection(ag::ParamStore& params, const std::string& name) const;
  ag::Value norm_heads(const ag::Value& x, ag::Param* gain) const;
  // Rotary part first, as the attention op wants it.
  KeyValue dense(const ag::Value& x, const ag::Value& q, const Position& at, LayerCache* cache,
                 const QueryKeyObserver& observe) const;
  KeyValue latent(const ag::Value& x, const Position& at, LayerCache* cache) const;
  ag::AttentionShape shape(const Position& at, int64_t keys) const;

  std::string prefix_;
  int64_t layer_;
  const LlamaConfig& config_;
  const AttentionSpec& spec_;
  ag::Param *q_norm_, *k_norm_;  // null without QK-norm
  Projection q_, k_, v_, k_rope_, kv_down_, k_down_, v_down_, k_up_, v_up_, o_;
  ag::RopePlan q_plan_, k_plan_;
};

}  // namespace model
