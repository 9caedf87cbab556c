#include "model/block.h"

namespace model {

using ag::Value;

Block::Block(const LlamaConfig& config, const AttentionSpec& spec, int64_t layer,
             ag::ParamStore& params)
    : eps_(config.rms_norm_eps),
      compute_(params.compute_dtype()),
      attention_(config, spec, layer, params) {
  const std::string prefix = layer_prefix(layer);
  attn_norm_ = &params.at(prefix + "attn_norm.weight");
  mlp_norm_ = &params.at(prefix + "mlp_norm.weight");
  gate_ = &params.at(prefix + "mlp.gate.weight");
  up_ = &params.at(prefix + "mlp.up.weight");
  down_ = &params.at(prefix + "mlp.down.weight");
  gate_bias_ = params.find(prefix + "mlp.gate.bias");
  up_bias_ = params.find(prefix + "mlp.up.bias");
  down_bias_ = params.find(prefix + "mlp.down.bias");
}

Value Block::attention_half(const Value& x, const Position& at, LayerCache* cache,
                            const QueryKeyObserver& observe) const {
  return attention_.forward(ag::rms_norm(x, *attn_norm_, eps_, compute_), x, at, cache, observe);
}

Value Block::mlp_half(const Value& h) const {
  const Value n = ag::rms_norm(h, *mlp_norm_, eps_, compute_);
  const Value f = ag::swiglu(ag::linear(n, *gate_, gate_bias_), ag::linear(n, *up_, up_bias_));
  return ag::linear_residual(f, *down_, down_bias_, h);
}

}  // namespace model
