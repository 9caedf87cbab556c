// Dense:   q, k, v = x W;  QK-norm if the model has it;  partial RoPE on q and k.
// Latent:  q = x W_q;  k_rope = RoPE(x W_k_rope);  c = x W_down;  k_nope = c W_k_up;  v = c W_v_up.
// (MHA2MLA, section 3; the softmax scale is the source's, 1 / sqrt(D), whatever r and c.)
#include "model/attention.h"

#include <cmath>

#include "model/rope.h"

namespace model {
namespace {

using ag::Value;

Value project(const Value& x, ag::Param* weight, ag::Param* bias) {
  return weight == nullptr ? x.tape->constant({}) : ag::linear(x, *weight, bias);
}

// With a cache the past comes along; without one the rows are all there is.
Value with_past(const Value& rows, CacheRows* cache) {
  if (cache == nullptr || !rows.data.defined()) return rows;
  return rows.tape->constant(cache->append(rows.data));
}

}  // namespace

Attention::Attention(const LlamaConfig& config, const AttentionSpec& spec, int64_t layer,
                     ag::ParamStore& params)
    : prefix_(layer_prefix(layer) + "attn."), layer_(layer), config_(config), spec_(spec) {
  q_norm_ = params.find(prefix_ + "q_norm.weight");
  k_norm_ = params.find(prefix_ + "k_norm.weight");
  q_ = projection(params, "q");
  o_ = projection(params, "o");
  k_ = projection(params, "k");
  v_ = projection(params, "v");
  k_rope_ = projection(params, "k_rope");
  kv_down_ = projection(params, "kv_down");
  k_down_ = projection(params, "k_down");
  v_down_ = projection(params, "v_down");
  k_up_ = projection(params, "k_up");
  v_up_ = projection(params, "v_up");
  q_plan_ = gather_plan(spec.kept_pairs, config.num_attention_heads / config.num_key_value_heads,
                        config.head_dim);
  k_plan_ = spec.method == LatentMethod::none ? gather_plan(spec.kept_pairs, 1, config.head_dim)
                                              : compact_plan(spec.kept_pairs);
}

Attention::Projection Attention::projection(ag::ParamStore& params, const std::string& name) const {
  return {params.find(prefix_ + name + ".weight"), params.find(prefix_ + name + ".bias")};
}

Value Attention::norm_heads(const Value& x, ag::Param* gain) const {
  return gain == nullptr ? x : ag::head_rms_norm(x, *gain, config_.rms_norm_eps);
}

ag::AttentionShape Attention::shape(const Position& at, int64_t keys) const {
  // Why the factor is here and not in the cosines: all scores of the source have it, so those of
  // columns that lost their rotation must keep it.
  const double factor = config_.rope.attention_factor;
  const double scale = factor * factor / std::sqrt(static_cast<double>(config_.head_dim));
  ag::AttentionShape s{.batch = at.batch,
                       .queries = at.tokens,
                       .keys = keys,
                       .heads = config_.num_attention_heads,
                       .kv_heads = config_.num_key_value_heads,
                       .head_dim = config_.head_dim,
                       .value_dim = config_.head_dim,
                       .scale = scale,
                       .rope_begin = {},
                       .rope_width = {},
                       .nope_begin = {}};
  int64_t rope = 0, nope = 0;
  for (const auto& kept : spec_.kept_pairs) {
    // Dense keys are whole: to the attention op all their columns are one part.
    const int64_t width = spec_.method == LatentMethod::none
                              ? config_.head_dim
                              : 2 * static_cast<int64_t>(kept.size());
    s.rope_begin.push_back(rope);
    s.rope_width.push_back(width);
    s.nope_begin.push_back(nope);
    rope += width;
    nope += config_.head_dim - width;
  }
  return s;
}

Attention::KeyValue Attention::dense(const Value& x, const Value& q, const Position& at,
                                     LayerCache* cache, const QueryKeyObserver& observe) const {
  const Value k = norm_heads(project(x, k_.weight, k_.bias), k_norm_);  // [N, G*D]
  const Value v = project(x, v_.weight, v_.bias);                       // [N, G*D]
  if (observe) observe(layer_, q.data, k.data);
  const Value turned = ag::rope(k, k_plan_, at.table, at.tokens, at.first_position);
  return {with_past(turned, cache ? &cache->key : nullptr), x.tape->constant({}),
          with_past(v, cache ? &cache->value : nullptr)};
}

Attention::KeyValue Attention::latent(const Value& x, const Position& at, LayerCache* cache) const {
  Value k_rope = project(x, k_rope_.weight, k_rope_.bias);  // [N, sum 2r]
  if (k_rope.data.defined())
    k_rope = ag::rope(k_rope, k_plan_, at.table, at.tokens, at.first_position);
  const bool joint = spec_.method == LatentMethod::joint;
  const Projection& down = joint ? kv_down_ : k_down_;
  const Value c_k =
      with_past(project(x, down.weight, down.bias), cache ? &cache->latent : nullptr);  // [N, C]
  const Value c_v =
      joint ? c_k
            : with_past(project(x, v_down_.weight, v_down_.bias), cache ? &cache->value : nullptr);
  return {with_past(k_rope, cache ? &cache->key : nullptr),
          project(c_k, k_up_.weight, k_up_.bias),   // [N, sum (D - 2r)]
          project(c_v, v_up_.weight, v_up_.bias)};  // [N, G*D]
}

Value Attention::forward(const Value& x, const Value& residual, const Position& at,
                         LayerCache* cache, const QueryKeyObserver& observe) const {
  const Value q = norm_heads(project(x, q_.weight, q_.bias), q_norm_);  // [N, H*D]
  const KeyValue kv =
      spec_.method == LatentMethod::none ? dense(x, q, at, cache, observe) : latent(x, at, cache);
  const Value turned = ag::rope(q, q_plan_, at.table, at.tokens, at.first_position);
  const Value out = ag::attention(turned, kv.k_rope, kv.k_nope, kv.v,
                                  shape(at, kv.v.data.rows() / at.batch));  // [N, H*D]
  return ag::linear_residual(out, *o_.weight, o_.bias, residual);
}

}  // namespace model
